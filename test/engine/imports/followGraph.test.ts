import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { readFeed } from '../../../src/engine/feed/read/read.ts';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { seedGraph } from '../../../src/engine/imports/followGraph.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { createUser } from '../../../src/engine/social/users.ts';
import { getUser } from '../../../src/engine/store/users.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { file } from '../../support/files.ts';

const OPTIONS = { celebrityThreshold: 500 };

/** Returns all rows that a seed may change. */
async function contents({ db }: TestCluster) {
  const { rows } = await db.query(`
    select (select json_agg(u order by id) from users u) as users,
           (select json_agg(f order by follower_id, followee_id) from follows f) as follows,
           (select json_agg(f order by followee_id, follower_id) from followers f) as followers,
           (select json_agg(c order by user_id) from celebrities c) as celebrities,
           (select count(*)::integer from events) as events`);
  return rows[0]!;
}

test('duplicates count once, a self-loop makes a user and no follow', async () => {
  const cluster = await testCluster();
  const first = await file('1 2\n1 2\n2 1 0.5\n3 3\n');
  const second = await file(gzipSync('# the same again\n1 2 7\n4 2\n'), 'more.gz');
  const result = await seedGraph(cluster, [first, second], OPTIONS);
  expect(result).toMatchObject({ users: 4, follows: 3, usersInFiles: 4, followsInFiles: 3, celebrities: 0 });
  expect(await getUser(cluster.db, 2)).toMatchObject({ followerCount: 2, pushState: 'push' });
  expect(await getUser(cluster.db, 3)).toMatchObject({ followerCount: 0 });
  expect(await verify(cluster.db, undefined)).toMatchObject({ checked: 4, mismatched: 0, asymmetric: 0 });
});

test('the same files again change nothing, nor does a rehearsal', async () => {
  const cluster = await testCluster();
  const path = await file('1 2\n2 3\n3 1\n');
  expect(await seedGraph(cluster, [path], { ...OPTIONS, dryRun: true })).toMatchObject({
    users: 3,
    follows: 3,
  });
  expect(await contents(cluster)).toMatchObject({ users: null, follows: null });
  await seedGraph(cluster, [path], OPTIONS);
  const before = await contents(cluster);
  expect(await seedGraph(cluster, [path], OPTIONS)).toMatchObject({
    users: 0,
    follows: 0,
    followsInFiles: 3,
  });
  expect(await contents(cluster)).toEqual(before);
});

test.each([
  ['a bad last line', '1 2\n2 3\n3 x'],
  ['an id that is too big', '1 2\n2 9007199254740992\n'],
  ['a field too many', '1 2\n1 2 3 4\n'],
  ['a bad weight', '1 2\n1 2 heavy\n'],
])('%s changes nothing', async (_, text) => {
  const cluster = await testCluster();
  const good = await file('7 8\n');
  const error = await rejection(seedGraph(cluster, [good, await file(text)], OPTIONS));
  expect(error).toMatchObject({ code: 'BAD_LINE' });
  expect(await contents(cluster)).toMatchObject({ users: null, follows: null, followers: null, events: 0 });
});

test('an interrupted seed changes nothing', async () => {
  const cluster = await testCluster();
  const options = { ...OPTIONS, signal: AbortSignal.abort() };
  expect(await rejection(seedGraph(cluster, [await file('1 2\n')], options))).toMatchObject({
    code: 'INTERRUPTED',
  });
  expect(await contents(cluster)).toMatchObject({ users: null });
});

test('authors with very many followers are celebrities from the start', async () => {
  const cluster = await testCluster();
  const lines = Array.from({ length: 6 }, (_, i) => `${i + 10} 1\n${i + 10} 2\n`).join('');
  const path = await file(`${lines}99 1\n`);
  expect(await seedGraph(cluster, [path], { celebrityThreshold: 6 })).toMatchObject({ celebrities: 1 });
  expect(await getUser(cluster.db, 1)).toMatchObject({ pushState: 'pull', followerCount: 7 });
  expect(await getUser(cluster.db, 2)).toMatchObject({ pushState: 'push', followerCount: 6 });
});

test('followers of authors who have posted get those posts', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  await createUser(cluster, { id: 1 });
  const posts = [await createPost(cluster, 1, 'one'), await createPost(cluster, 1, 'two')];
  await seedGraph(cluster, [await file('5 1\n6 1\n5 6\n')], OPTIONS);
  await cluster.settled();
  for (const reader of [5, 6]) {
    const { items } = await readFeed(cluster.db, reader, { limit: 10 });
    expect(items.map((item) => item.postId)).toEqual([posts[1]!.id, posts[0]!.id]);
  }
  expect(await verify(cluster.db, undefined)).toMatchObject({ checked: 3, mismatched: 0, asymmetric: 0 });
});

test('a seed over an unfollow that is still on its way keeps the count of followers true', async () => {
  const cluster = await testCluster();
  await createUser(cluster, { id: 1 });
  await createUser(cluster, { id: 2 });
  const pair = { followerId: 2, followeeId: 1 };
  const worker = await cluster.startWorker();
  await follow(cluster, pair);
  await cluster.settled();
  await worker.stop(5_000);
  await unfollow(cluster, pair);
  await seedGraph(cluster, [await file('2 1\n')], OPTIONS);
  await cluster.startWorker();
  await cluster.settled();
  expect(await getUser(cluster.db, 1)).toMatchObject({ followerCount: 1 });
  expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });
});
