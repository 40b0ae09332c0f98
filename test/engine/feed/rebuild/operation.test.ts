import { expect, test } from 'vitest';
import { pauseFanout, resumeFanout, throttleFanout } from '../../../../src/engine/fanout/laneControl.ts';
import { openLanes } from '../../../../src/engine/fanout/lanes.ts';
import { rebuildMany } from '../../../../src/engine/feed/rebuild/operation.ts';
import { verify } from '../../../../src/engine/feed/verify/verify.ts';
import type { LaneState } from '../../../../src/engine/model/lanes.ts';
import { listOperations } from '../../../../src/engine/operations/table.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { testCluster } from '../../../support/cluster.ts';
import { plantFollows, plantPosts, plantUsers } from '../feeds.ts';

const { signal } = new AbortController();
const pausing = { reason: 'rush hour', dryRun: false, timeoutMs: 0, signal };
const FEEDS = 60;
const POSTS = 50;
const RATE = 2_000;

test('bulk work that is in no queue keeps to what was done to the bulk lane, too', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  const count = async () => (await db.query('select from feed_items')).rowCount;
  await plantUsers(db, FEEDS + 1);
  await plantFollows(
    db,
    Array.from({ length: FEEDS }, (_, i) => [i + 2, 1]),
  );
  await plantPosts(
    db,
    Array.from({ length: POSTS }, (_, i) => ({ id: i + 1, authorId: 1 })),
  );
  await cluster.startWorker();
  const lanes = await openLanes(db, silentLog, () => {});
  const share = () => lanes.rate('bulk');
  await throttleFanout(db, ['bulk', 'live'], RATE, { reason: null, dryRun: false });
  await pauseFanout(db, ['bulk'], pausing);
  await expect.poll(share).toBe(RATE);

  const told: (LaneState | undefined)[] = [];
  const rebuilding = rebuildMany(cluster, { onProgress: (_, _total, _before, waits) => told.push(waits) });
  await expect.poll(() => told.length).toBeGreaterThan(3);
  expect(told.every((waits) => waits?.paused?.reason === 'rush hour')).toBe(true);
  expect(await listOperations(db, { kind: 'rebuild', limit: 1 })).toMatchObject([
    { state: 'running', waitsFor: expect.stringContaining('bulk lane') },
  ]);
  // The worker and the rebuild share the rate of the bulk lane. The live lane is the worker's alone.
  await expect.poll(share).toBe(RATE / 2);
  expect(lanes.rate('live')).toBe(RATE);
  // A dry run writes nothing, so it does not wait.
  expect(await rebuildMany(cluster, { dryRun: true })).toMatchObject({ added: FEEDS * POSTS });
  expect(await count()).toBe(0);

  await resumeFanout(db, ['bulk'], { dryRun: false });
  const { added, seconds } = await rebuilding;
  expect(added).toBe(FEEDS * POSTS);
  expect(told.at(-1)).toBeUndefined();
  // Two chunks of half a second's rows run concurrently, and the last ones need not wait.
  const inBursts = RATE / 2;
  expect(seconds).toBeGreaterThan((added - 2 * inBursts) / (RATE / 2));
  expect(await verify(db, undefined)).toMatchObject({ mismatched: 0, checked: FEEDS + 1 });
  expect(await listOperations(db, { kind: 'rebuild', limit: 1 })).toMatchObject([
    { state: 'done', waitsFor: null },
  ]);
  await expect.poll(share).toBe(RATE);
  await lanes.close();
});

test('a rebuild that waits for its lane can be told to stop', async () => {
  const cluster = await testCluster();
  await cluster.users(2);
  await pauseFanout(cluster.db, ['bulk'], pausing);
  const stop = new AbortController();
  const stopped = rebuildMany(cluster, { signal: stop.signal, onProgress: () => stop.abort() });
  await expect(stopped).rejects.toMatchObject({ code: 'INTERRUPTED' });
});
