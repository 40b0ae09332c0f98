import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { pauseFanout, resumeFanout, throttleFanout } from '../../../src/engine/fanout/laneControl.ts';
import { openLanes } from '../../../src/engine/fanout/lanes.ts';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost } from '../../../src/engine/social/posts.ts';
import { readLanes } from '../../../src/engine/store/lanes.ts';
import { workerHeartbeat } from '../../../src/engine/store/processes.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { freshDatabase, testCluster } from '../../support/cluster.ts';

const { signal } = new AbortController();
const pausing = { reason: null, dryRun: false, timeoutMs: 60_000, signal };

test('a paused lane takes nothing, whichever workers come, and goes on where it was', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  await cluster.startWorker();
  const [author, follower] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: follower, followeeId: author });
  await createPost(cluster, author, 'before');
  await cluster.settled();

  const paused = await pauseFanout(db, ['live', 'bulk'], { ...pausing, reason: 'a test' });
  expect(paused).toMatchObject({ changed: ['live', 'bulk'], workers: { standing: 1, of: 1 } });
  await cluster.startWorker();
  const kept = await createPost(cluster, author, 'kept');
  const gone = await createPost(cluster, author, 'gone');
  await deletePost(cluster, gone.id);
  // Both have said so, and neither has taken anything.
  expect((await pauseFanout(db, ['live'], pausing)).workers).toEqual({ standing: 2, of: 2 });
  expect(await cluster.bus.depths()).toMatchObject([{ queue: 'events', ready: 3, unacked: 0 }]);
  const items = async () =>
    (await db.query<{ post_id: number }>('select post_id from feed_items')).rows.map((row) => row.post_id);
  expect(await items()).toHaveLength(1);

  expect((await resumeFanout(db, ['live'], { dryRun: true })).changed).toEqual(['live']);
  expect((await readLanes(db)).map(({ paused }) => paused?.reason)).toEqual(['a test', 'a test']);
  expect((await resumeFanout(db, ['live', 'bulk'], { dryRun: false })).changed).toHaveLength(2);
  await cluster.settled();
  expect(await items()).toContain(kept.id);
  expect(await verify(db, undefined)).toMatchObject({ mismatched: 0 });
});

test('the live lane goes on while the bulk lane is paused, and cleanups too', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const [author, follower] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: follower, followeeId: author });
  await pauseFanout(cluster.db, ['bulk'], pausing);
  const post = await createPost(cluster, author, 'now');
  await deletePost(cluster, post.id);
  await cluster.settled();
  await expect.poll(() => cluster.bus.depths()).toEqual([]);
});

test('what workers were not told of they find out', async () => {
  const { db } = await freshDatabase();
  const lanes = await openLanes(db, silentLog, () => {});
  onTestFinished(() => lanes.close());
  await db.query(`update fanout_lanes set rows_per_second = 5000 where lane = 'bulk'`);
  expect(lanes.rate('bulk')).toBeUndefined();
  await lanes.refresh();
  expect(lanes.rate('bulk')).toBe(5_000);
});

test('workers that are heard of share a rate', async () => {
  const { db } = await freshDatabase();
  const beat = { reads: null, paused: [], live: true };
  const register = (id: string) =>
    workerHeartbeat(db, { id, host: 'h', pid: 1, version: '', startedAt: new Date(), drainable: true }, beat);
  const open = async () => {
    const lanes = await openLanes(db, silentLog, () => {});
    onTestFinished(() => lanes.close());
    return lanes;
  };
  await register(randomUUID());
  const first = await open();
  await throttleFanout(db, ['live'], 3_000, { reason: null, dryRun: false });
  await expect.poll(() => first.rate('live')).toBe(3_000);
  expect(first.rate('bulk')).toBeUndefined();
  const late = randomUUID();
  await register(late);
  const second = await open();
  // Told by the second one's coming.
  await expect.poll(() => first.rate('live')).toBe(1_500);
  expect(second.rate('live')).toBe(1_500);
  await db.query(`update workers set heartbeat_at = now() - interval '1 minute' where id = $1`, [late]);
  await first.refresh();
  expect(first.rate('live')).toBe(3_000);
  await throttleFanout(db, ['live'], null, { reason: null, dryRun: false });
  await expect.poll(() => second.rate('live')).toBeUndefined();
});

test('a throttled lane writes everything, and gives back what waits when it is paused', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  const [author, ...followers] = (await cluster.users(101)) as [number, ...number[]];
  for (const followerId of followers) await follow(cluster, { followerId, followeeId: author });
  const worker = await cluster.startWorker();
  await cluster.settled();
  await throttleFanout(db, ['live'], 1_000, { reason: null, dryRun: false });
  for (let i = 0; i < 40; i += 1) await createPost(cluster, author, String(i));
  await expect.poll(() => worker.rowsWritten).toBeGreaterThan(0);
  expect(await pauseFanout(db, ['live'], pausing)).toMatchObject({ workers: { standing: 1, of: 1 } });
  const depths = await cluster.bus.depths();
  expect(depths.every((depth) => depth.unacked === 0)).toBe(true);
  const written = worker.rowsWritten;
  expect(written).toBeLessThan(4_000);
  await resumeFanout(db, ['live'], { dryRun: false });
  await cluster.settled();
  expect(await verify(db, undefined)).toMatchObject({ mismatched: 0 });
  expect(worker.rowsWritten).toBe(4_000);
});
