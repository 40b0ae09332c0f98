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
