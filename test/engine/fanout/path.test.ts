import { expect, test } from 'vitest';
import { readFeed } from '../../../src/engine/feed/read/read.ts';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost } from '../../../src/engine/social/posts.ts';
import { insertPost } from '../../../src/engine/store/posts.ts';
import { testCluster } from '../../support/cluster.ts';

const feedOf = async (cluster: Awaited<ReturnType<typeof testCluster>>, user: number) =>
  (await readFeed(cluster.db, user, { limit: 100 })).items.map((item) => item.postId);

test('a post reaches its followers and its author, and nobody else', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const [author, follower, stranger] = (await cluster.users(3)) as [number, number, number];
  await follow(cluster, { followerId: follower, followeeId: author });
  const post = await createPost(cluster, author, 'hello');
  await cluster.settled();
  expect(await feedOf(cluster, follower)).toEqual([post.id]);
  expect(await feedOf(cluster, author)).toEqual([post.id]);
  expect(await feedOf(cluster, stranger)).toEqual([]);
  expect(await verify(cluster.db, undefined)).toMatchObject({ checked: 3, mismatched: 0 });
});

test('following backfills, unfollowing and deleting take away', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const [author, follower] = (await cluster.users(2)) as [number, number];
  const first = await createPost(cluster, author, 'first');
  const second = await createPost(cluster, author, 'second');
  const pair = { followerId: follower, followeeId: author };
  await follow(cluster, pair);
  await cluster.settled();
  expect(await feedOf(cluster, follower)).toEqual([second.id, first.id]);
  await deletePost(cluster, second.id);
  expect(await feedOf(cluster, follower)).toEqual([first.id]);
  await unfollow(cluster, pair);
  expect(await feedOf(cluster, follower)).toEqual([]);
  await cluster.settled();
  expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });
});

test('a post whose event comes after its deletion leaves no row behind', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  const [author, follower] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: follower, followeeId: author });
  const [id, eventId] = (await cluster.ids.take(2)) as [number, number];
  await insertPost(db, { id, authorId: author, body: 'late', eventId });
  await deletePost(cluster, id);
  await cluster.startWorker();
  // The deletion is handled and cleaned up after; the sweeper takes two seconds to find the older
  // event.
  await cluster.settled();
  const { rows } = await db.query('select 1 from feed_items');
  expect(rows).toEqual([]);
  expect(await verify(db, undefined)).toMatchObject({ mismatched: 0, orphans: 0 });
});

test('followers of a big author are read in ranges, wherever their ids are', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  const [author] = (await cluster.users(1)) as [number];
  // Two crowds far from each other: most ranges are empty, and two have more followers than others.
  await db.query(
    `insert into followers (followee_id, follower_id)
     select $1, n + case when n % 2 = 0 then 0 else 1000000000 end from generate_series(1, 70000) n`,
    [author],
  );
  await db.query('update users set follower_count = 70000 where id = $1', [author]);
  const post = await createPost(cluster, author, 'to all');
  const gone = await createPost(cluster, author, 'deleted');
  await deletePost(cluster, gone.id);
  // Dies with some of the messages published.
  const dying = await cluster.startWorker();
  await expect.poll(() => db.query('select 1 from feed_items limit 1').then((r) => r.rowCount)).toBe(1);
  await dying.stop(0);
  await cluster.startWorker();
  await cluster.settled();
  const { rows } = await db.query<{ post_id: number; users: number; first: number; last: number }>(
    `select post_id, count(distinct user_id)::integer as users, min(user_id) as first, max(user_id) as last
     from feed_items group by 1`,
  );
  expect(rows).toEqual([{ post_id: post.id, users: 70_000, first: 2, last: 1_000_069_999 }]);
});
