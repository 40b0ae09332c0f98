import { expect, onTestFinished, test } from 'vitest';
import type { Bus, QueueDepth } from '../../../src/engine/bus/bus.ts';
import { startClusterFigures } from '../../../src/engine/fanout/clusterFigures.ts';
import { openPresence } from '../../../src/engine/live/presence.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';

const OFTEN = { everyMs: 50, leaseSeconds: 2 };

/** What one worker exports of the cluster. */
async function exporter(cluster: TestCluster, id: string, bus: Bus = cluster.bus) {
  const { db } = cluster;
  const metrics = await openMetrics();
  const presence = await openPresence(db);
  const figures = startClusterFigures({ db, bus, presence, log: silentLog, metrics, id }, OFTEN);
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
    `insert into settings (name, value) values ('figures.leader', jsonb_build_object('id', 'killed', 'at', clock_timestamp()))
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

test('what nobody consumes gets older although the broker does not say how old it is', async () => {
  const cluster = await testCluster();
  const depth: QueueDepth = { queue: 'events', ready: 3, unacked: 0, oldestAgeMs: null, deadLetters: 0 };
  const worker = await exporter(cluster, 'one', { ...cluster.bus, depths: async () => [depth] });
  await expect.poll(() => worker.read('feedctl_queue_oldest_seconds')).toHaveLength(1);
});
