import { expect, onTestFinished, test } from 'vitest';
import type { Bus, QueueDepth } from '../../../src/engine/bus/bus.ts';
import type { Cluster } from '../../../src/engine/cluster/cluster.ts';
import { startReporting } from '../../../src/engine/cluster/reportStats.ts';
import { Database } from '../../../src/engine/database/database.ts';
import { feedPartitions } from '../../../src/engine/database/feedPartitions.ts';
import { startClusterMetrics } from '../../../src/engine/fanout/clusterMetrics.ts';
import { estimateAges } from '../../../src/engine/fanout/queueAges.ts';
import { openPresence } from '../../../src/engine/live/presence.ts';
import { Resources } from '../../../src/engine/resilience/resources.ts';
import { ProcessStats } from '../../../src/engine/stats/process.ts';
import { readStats } from '../../../src/engine/stats/table.ts';
import { databaseNow } from '../../../src/engine/store/databaseClock.ts';
import { recordFeedStorage } from '../../../src/engine/store/feedStorage.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { openProxy } from '../../support/proxy.ts';

const OFTEN = { everyMs: 50, leaseSeconds: 2 };

/** What one worker exports of the cluster. */
async function exporter(
  cluster: Pick<TestCluster, 'db' | 'bus'>,
  id: string,
  bus: Bus = cluster.bus,
  options: Parameters<typeof startClusterMetrics>[1] = OFTEN,
) {
  const { db } = cluster;
  const metrics = await openMetrics();
  const presence = await openPresence(db);
  const figures = startClusterMetrics({ db, bus, presence, log: silentLog, metrics, id }, options);
  onTestFinished(async () => {
    await figures.stop();
    await presence.close();
  });
  return {
    stop: figures.stop,
    read: async (name: string) =>
      (await metrics.text()).split('\n').filter((line) => line.startsWith(name) && !line.endsWith('} 0')),
  };
}

const lookedAt = async ({ db }: TestCluster) =>
  (await db.query<{ at: string }>(`select value ->> 'at' as at from settings where name = 'figures.leader'`))
    .rows;

test('one of several workers exports what waits in queues, another when it has stopped', async () => {
  const cluster = await testCluster();
  await cluster.bus.publish([
    { queue: 'events', body: Buffer.from('none') },
    { queue: 'events', body: Buffer.from('none') },
    { queue: 'live.some-gateway', body: Buffer.from('none') },
  ]);
  const first = await exporter(cluster, 'first');
  const waiting = [
    'feedctl_queue_messages{queue="events",state="ready"} 2',
    'feedctl_queue_messages{queue="live",state="ready"} 1',
  ];
  await expect.poll(() => first.read('feedctl_queue_messages')).toEqual(waiting);
  await expect.poll(() => first.read('feedctl_queue_oldest_seconds{queue="events"}')).toHaveLength(1);
  expect(await first.read('feedctl_workers')).toEqual(['feedctl_workers 0']);
  const second = await exporter(cluster, 'second');
  // While the first looks twice, the second has asked too.
  for (let look = 0; look < 2; look += 1) {
    const before = await lookedAt(cluster);
    await expect.poll(() => lookedAt(cluster)).not.toEqual(before);
  }
  expect(await second.read('feedctl_workers')).toEqual([]);
  expect(await second.read('feedctl_queue_messages')).toEqual([]);
  await first.stop();
  await expect.poll(() => second.read('feedctl_queue_messages')).toEqual(waiting);
  expect(await first.read('feedctl_queue_messages')).toEqual([]);
});

test('another worker takes over from one that was killed, and figures that are not known are not shown', async () => {
  const cluster = await testCluster();
  const { rows } = await cluster.db.query<{ at: Date }>(
    `insert into settings (name, value)
     values ('figures.leader', jsonb_build_object('id', 'killed', 'at', clock_timestamp()))
     returning (value ->> 'at')::timestamptz as at`,
  );
  let away = false;
  const bus: Bus = {
    ...cluster.bus,
    depths: () => (away ? Promise.reject(new Error('the broker is away')) : cluster.bus.depths()),
  };
  const worker = await exporter(cluster, 'next', bus);
  await expect.poll(() => worker.read('feedctl_workers')).toEqual(['feedctl_workers 0']);
  expect(Date.now() - rows[0]!.at.getTime(), 'not within its lease').toBeGreaterThanOrEqual(
    OFTEN.leaseSeconds * 1_000,
  );
  away = true;
  await expect.poll(() => worker.read('feedctl_workers')).toEqual([]);
  away = false;
  await expect.poll(() => worker.read('feedctl_workers')).toEqual(['feedctl_workers 0']);
});

test('feed rows are exported as they were measured, and not when that was long ago', async () => {
  const cluster = await testCluster();
  const now = await databaseNow(cluster.db);
  await recordFeedStorage(cluster.db, now);
  const worker = await exporter(cluster, 'one');
  await expect.poll(() => worker.read('feedctl_feed_rows')).toEqual(['feedctl_feed_rows 0']);
  expect(await worker.read('feedctl_feed_partitions')).toEqual([
    `feedctl_feed_partitions ${(await feedPartitions(cluster.db)).length}`,
  ]);
  expect(await worker.read('feedctl_feed_wal_bytes_per_row'), 'no rows').toEqual([]);
  await recordFeedStorage(cluster.db, now - 300_000);
  await expect.poll(() => worker.read('feedctl_feed_rows')).toEqual([]);
});

test('what nobody consumes gets older although the broker does not say how old it is', async () => {
  const cluster = await testCluster();
  const depth: QueueDepth = { queue: 'events', ready: 3, unacked: 0, oldestAgeMs: null, deadLetters: 0 };
  const worker = await exporter(cluster, 'one', { ...cluster.bus, depths: async () => [depth] });
  await expect.poll(() => worker.read('feedctl_queue_oldest_seconds')).toHaveLength(1);
});

const ageIn = ([line = '']: string[]) => Number(line.split(' ')[1] ?? 0);

test('an age that nobody knows goes on where another worker looks, and begins anew where nobody looked', async () => {
  const cluster = await testCluster();
  let depth: QueueDepth = { queue: 'events', ready: 3, unacked: 0, oldestAgeMs: null, deadLetters: 0 };
  const bus = { ...cluster.bus, depths: async () => [depth] };
  const oldest = async (worker: Awaited<ReturnType<typeof exporter>>) =>
    ageIn(await worker.read('feedctl_queue_oldest_seconds'));
  const first = await exporter(cluster, 'first', bus);
  await expect.poll(() => oldest(first)).toBeGreaterThan(0.5);
  const before = await oldest(first);
  await first.stop();
  const next = await exporter(cluster, 'next', bus);
  await expect.poll(() => oldest(next)).toBeGreaterThanOrEqual(before);
  // It was known in between: the same messages are not there any more.
  depth = { ...depth, oldestAgeMs: 1 };
  await expect.poll(() => oldest(next)).toBe(0.001);
  const known = await lookedAt(cluster);
  await expect.poll(() => lookedAt(cluster)).not.toEqual(known);
  depth = { ...depth, oldestAgeMs: null };
  await expect.poll(() => oldest(next)).not.toBe(0.001);
  expect(await oldest(next)).toBeLessThan(before);
  await next.stop();
  expect((await estimateAges(cluster.db, ['events'], 60)).get('events')).toBeGreaterThan(0);
  expect((await estimateAges(cluster.db, ['events'], 0)).get('events')).toBeLessThan(1);
});

/** One that gives no answer to some looks at its queues; the first is number 1. */
function hangingBus({ bus }: TestCluster, hangs: (look: number) => boolean): Bus {
  let looks = 0;
  return {
    ...bus,
    depths: () => {
      looks += 1;
      return hangs(looks) ? new Promise(() => {}) : bus.depths();
    },
  };
}

test('while a look hangs the lease runs out: the figures are gone, and nothing waits for it at the end', async () => {
  const cluster = await testCluster();
  const bus = hangingBus(cluster, (look) => look > 1);
  const patient = { everyMs: 50, leaseSeconds: 1, timeoutMs: 3_600_000 };
  const worker = await exporter(cluster, 'hanging', bus, patient);
  await expect.poll(() => worker.read('feedctl_workers')).toEqual(['feedctl_workers 0']);
  await expect.poll(() => worker.read('feedctl_workers'), { timeout: 10_000 }).toEqual([]);
  const other = await exporter(cluster, 'other');
  await expect.poll(() => other.read('feedctl_workers')).toEqual(['feedctl_workers 0']);
  await worker.stop();
  expect(await other.read('feedctl_workers')).toEqual(['feedctl_workers 0']);
});

test('a look that is given up is followed by others', async () => {
  const cluster = await testCluster();
  const bus = hangingBus(cluster, (look) => look === 1);
  const worker = await exporter(cluster, 'one', bus, { ...OFTEN, timeoutMs: 200 });
  await expect.poll(() => worker.read('feedctl_workers')).toEqual(['feedctl_workers 0']);
});

test('a database that says nothing holds up no end', async () => {
  const cluster = await testCluster();
  const proxy = await openProxy(cluster.url);
  const db = new Database(proxy.url);
  onTestFinished(() => db.close());
  const worker = await exporter({ ...cluster, db }, 'silenced');
  await expect.poll(() => worker.read('feedctl_workers')).toEqual(['feedctl_workers 0']);
  const resources = new Resources();
  const stats = new ProcessStats();
  startReporting({ db, stats, log: silentLog } as Cluster, resources);
  await expect.poll(() => readStats(cluster.db)).toHaveLength(1);
  proxy.stall();
  await Promise.all([worker.stop(), resources.release()]);
  proxy.open();
});
