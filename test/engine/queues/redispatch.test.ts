import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { liveQueue } from '../../../src/engine/live/notifier.ts';
import { announce, registerGateway } from '../../../src/engine/live/presence.ts';
import { MAX_ID } from '../../../src/engine/model/ids.ts';
import { listOperations } from '../../../src/engine/operations/table.ts';
import { redispatch, redispatchEvents } from '../../../src/engine/queues/redispatch.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost } from '../../../src/engine/social/posts.ts';
import { testCluster } from '../../support/cluster.ts';

const signal = new AbortController().signal;
const EVERYTHING = { from: 1, to: MAX_ID };

test('events dispatched again make feeds whole, as often as one likes, and tell no socket', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  await cluster.startWorker();
  const [author, follower] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: follower, followeeId: author });
  const kept = [await createPost(cluster, author, 'one'), await createPost(cluster, author, 'two')];
  const deleted = await createPost(cluster, author, 'three');
  await deletePost(cluster, deleted.id);
  await cluster.settled();

  const gateway = randomUUID();
  await registerGateway(db, { id: gateway, url: 'http://gateway' });
  await announce(db, gateway, { arrived: [follower], left: [] });
  const told = async () =>
    (await db.query('select from bus.messages where queue = $1', [liveQueue(gateway)])).rowCount;

  // State after a purge of planned rows.
  await db.query('delete from feed_items');
  expect(await verify(db, undefined)).toMatchObject({ missing: 2 });
  const plan = await redispatchEvents(cluster, EVERYTHING, { signal, dryRun: true });
  expect(plan).toMatchObject({
    matched: { 'post.created': 3, 'post.deleted': 1, 'follow.created': 1 },
    events: 0,
  });
  expect(await verify(db, undefined)).toMatchObject({ missing: 2 });

  const [only] = kept;
  const { rows } = await db.query<{ id: number }>(
    `select id from events where subject_id = $1 and type = 'post.created'`,
    [only!.id],
  );
  const range = { from: rows[0]!.id, to: rows[0]!.id + 1, userId: author, types: ['post.created'] as const };
  expect(await redispatchEvents(cluster, range, { signal, dryRun: false })).toMatchObject({ events: 1 });
  await cluster.settled();
  expect(await verify(db, undefined)).toMatchObject({ missing: 1 });

  for (let i = 0; i < 2; i += 1) {
    const done = await redispatchEvents(cluster, EVERYTHING, { signal, dryRun: false, rate: 1_000 });
    expect(done).toMatchObject({ events: 5, nextId: null });
    await cluster.settled();
    expect(await verify(db, undefined)).toMatchObject({ missing: 0, strangers: 0, duplicates: 0 });
    const items = await db.query('select from feed_items where user_id = $1', [follower]);
    expect(items.rowCount).toBe(2);
  }
  expect(await told()).toBe(0);
  await createPost(cluster, author, 'now');
  await expect.poll(told).toBe(1);
});

test('a redispatch that is stopped says where, and goes on in its range when the same is asked for', async () => {
  const cluster = await testCluster();
  const [author] = (await cluster.users(1)) as [number];
  for (let i = 0; i < 3; i += 1) await createPost(cluster, author, String(i));
  const stop = new AbortController();
  const options = { dryRun: false, rate: 1, signal: stop.signal, onProgress: () => stop.abort() };
  const first = await redispatch(cluster, 'from=1h', EVERYTHING, options);
  expect(first).toMatchObject({ events: 1, nextId: expect.any(Number) });
  const last = async () => (await listOperations(cluster.db, { kind: 'redispatch', limit: 1 }))[0];
  expect(await last()).toMatchObject({
    state: 'interrupted',
    progress: { done: 1, total: 3, unit: 'events' },
  });
  // The requested range begins later by now.
  const range = { from: MAX_ID - 1, to: MAX_ID };
  const resumed: number[] = [];
  const onResume = ({ id }: { id: number }) => resumed.push(id);
  const second = await redispatch(cluster, 'from=1h', range, { dryRun: false, signal, onResume });
  expect(second).toMatchObject({ events: 3, nextId: null });
  expect(await last()).toMatchObject({ id: resumed[0], state: 'done', runs: 2 });
  expect(await redispatch(cluster, 'from=1h', range, { dryRun: false, signal })).toMatchObject({ events: 0 });
});
