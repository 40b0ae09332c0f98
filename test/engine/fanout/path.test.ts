import { expect, test } from 'vitest';
import { readFeed } from '../../../src/engine/feed/read.ts';
import { verify } from '../../../src/engine/feed/verify.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost } from '../../../src/engine/social/posts.ts';
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
