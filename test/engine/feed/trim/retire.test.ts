import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../../src/engine/database/database.ts';
import { feedPartitions } from '../../../../src/engine/database/feedPartitions.ts';
import { readFeed } from '../../../../src/engine/feed/read/read.ts';
import { rebuild } from '../../../../src/engine/feed/rebuild/rebuild.ts';
import { retire } from '../../../../src/engine/feed/trim/retire.ts';
import { verify } from '../../../../src/engine/feed/verify/verify.ts';
import { follow, unfollow } from '../../../../src/engine/social/follows.ts';
import { createPost } from '../../../../src/engine/social/posts.ts';
import { createUser } from '../../../../src/engine/social/users.ts';
import { feedctl, start, waitUntil } from '../../../support/cli.ts';
import { type TestCluster, testCluster } from '../../../support/cluster.ts';
import { cutFeedPartition, plainFeedPartitions } from '../../../support/feedPartitions.ts';
import { ids, scroll } from '../feeds.ts';

const rows = async ({ db }: TestCluster): Promise<number> =>
  (await db.query<{ n: number }>('select count(*)::integer as n from feed_items')).rows[0]!.n;

const SOUND = { mismatched: 0, missing: 0, strangers: 0, duplicates: 0 };

/** A reader of two authors whose 30 posts are in three partitions. */
async function threePartitions() {
  const cluster = await testCluster();
  await plainFeedPartitions(cluster.db);
  await cluster.startWorker();
  const [reader, a, b] = await cluster.users(3);
  for (const author of [a!, b!]) await follow(cluster, { followerId: reader!, followeeId: author });
  const posts: number[] = [];
  let cut = 0;
  for (let part = 0; part < 3; part += 1) {
    for (let n = 0; n < 10; n += 1)
      posts.unshift((await createPost(cluster, n % 3 ? a! : b!, `post ${n}`)).id);
    await cluster.settled();
    if (part < 2) cut = await cutFeedPartition(cluster.db, `feed_items_part${part}`);
  }
  expect(await rows(cluster)).toBe(30);
  return { cluster, reader: reader!, author: a!, posts, cut };
}

test('rows of old posts go at once, and a reader who scrolls meanwhile finds each post once', async () => {
  const { cluster, reader, posts, cut } = await threePartitions();
  const { db } = cluster;
  expect(ids(await scroll(db, reader, 7))).toEqual(posts);
  const beforeMs = Date.now();
  expect(await retire(db, { beforeMs, dryRun: true })).toMatchObject({
    users: 0,
    partitions: ['feed_items_before', 'feed_items_part0', 'feed_items_part1'],
  });
  expect(await rows(cluster)).toBe(30);
  const first = await readFeed(db, reader, { limit: 12 });
  expect(await retire(db, { beforeMs })).toMatchObject({ users: 3 });
  expect(await rows(cluster)).toBe(10);
  expect((await feedPartitions(db)).slice(0, 2)).toMatchObject([
    { name: 'feed_items_before', from: 0, to: cut },
    { name: 'feed_items_now', from: cut },
  ]);
  const second = await readFeed(db, reader, { limit: 50, cursor: first.nextCursor! });
  expect(ids([...first.items, ...second.items])).toEqual(posts);
  expect(await verify(db, undefined)).toMatchObject(SOUND);
  // Nothing is left to do, and the old range takes rows again: a rebuilt feed is complete.
  expect(await retire(db, { beforeMs })).toMatchObject({ users: 0, items: 0 });
  await rebuild(db, reader);
  expect(await rows(cluster)).toBe(30);
  expect(ids(await scroll(db, reader, 7))).toEqual(posts);
  expect(await verify(db, undefined)).toMatchObject(SOUND);
  await retire(db, { beforeMs });
  expect(await rows(cluster)).toBe(10);
  expect(await verify(db, undefined)).toMatchObject(SOUND);
});

test('a retirement that is killed between the floors and the rows is continued', async () => {
  const { cluster, reader, posts } = await threePartitions();
  const { db, url } = cluster;
  const other = new Database(url, { applicationName: 'nightly report' });
  onTestFinished(() => other.close());
  const command = ['feed', 'trim', '--all', '--before', new Date().toISOString(), '--database-url', url];
  const lowFloors = async () => (await db.query('select 1 from users where feed_floor = 0')).rowCount;
  await other.withSession(async (session) => {
    await session.query('begin');
    await session.query('select count(*) from feed_items');
    const trimming = start(command);
    await waitUntil(async () => (await lowFloors()) === 0);
    process.kill(trimming.pid, 'SIGKILL');
    await trimming.ended;
    await session.query('rollback');
  });
  expect(await rows(cluster)).toBe(30);
  expect(ids(await scroll(db, reader, 7))).toEqual(posts);
  expect(await verify(db, undefined)).toMatchObject(SOUND);
  const again = await feedctl([...command, '--json']);
  expect(JSON.parse(again.stdout)).toMatchObject({
    partitions: expect.arrayContaining(['feed_items_part0']),
  });
  expect(await rows(cluster)).toBe(10);
  expect(ids(await scroll(db, reader, 7))).toEqual(posts);
});

test('feeds stay complete while rows are retired under rebuilds, new followers and unfollows', async () => {
  const { cluster, reader, author } = await threePartitions();
  const { db } = cluster;
  let stopped = false;
  const busy = [
    async () => rebuild(db, reader),
    async () => {
      const followerId = (await createUser(cluster, {})).id;
      await follow(cluster, { followerId, followeeId: author });
    },
    async () => {
      await unfollow(cluster, { followerId: reader, followeeId: author });
      await follow(cluster, { followerId: reader, followeeId: author });
    },
    async () => createPost(cluster, author, 'meanwhile'),
  ].map(async (work) => {
    // Transactions one after the other would leave no moment for the lock.
    for (; !stopped; await sleep(20)) await work();
  });
  for (let n = 0; n < 2; n += 1) {
    await cutFeedPartition(db, `feed_items_more${n}`);
    await retire(db, { beforeMs: Date.now() });
  }
  stopped = true;
  await Promise.all(busy);
  await cluster.settled();
  expect(await verify(db, undefined)).toMatchObject(SOUND);
  const { rows: truth } = await db.query<{ id: number }>(
    `select p.id from followers f join posts p on p.author_id = f.followee_id
     where f.follower_id = $1 order by p.id desc`,
    [reader],
  );
  expect(ids(await scroll(db, reader, 50))).toEqual(truth.map(({ id }) => id));
});
