import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { openMemoryCache } from '../../../../src/engine/cache/memory/cache.ts';
import type { Database } from '../../../../src/engine/database/database.ts';
import type { Store } from '../../../../src/engine/database/sharding.ts';
import { readFeed } from '../../../../src/engine/feed/read/read.ts';
import { rebuild } from '../../../../src/engine/feed/rebuild/rebuild.ts';
import { verify } from '../../../../src/engine/feed/verify/verify.ts';
import { follow, unfollow } from '../../../../src/engine/social/follows.ts';
import { createPost, deletePost } from '../../../../src/engine/social/posts.ts';
import { getUser } from '../../../../src/engine/store/users.ts';
import { freshDatabase, testCluster } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { ids, makeCelebrity, plantFollows, plantPosts, plantUsers, scroll, truth } from '../feeds.ts';

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

async function memoryCache(db: Database) {
  const cache = await openMemoryCache(db);
  onTestFinished(() => cache.close());
  return cache;
}

test('a feed that was backfilled past its limit reads on below its floor', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  const [author, other, reader] = (await cluster.users(3)) as [number, number, number];
  await plantPosts(
    db,
    range(1, 2_500).map((id) => ({ id, authorId: id % 10 === 0 ? other : author })),
  );
  await cluster.startWorker();
  await follow(cluster, { followerId: reader, followeeId: author });
  await follow(cluster, { followerId: reader, followeeId: other });
  await cluster.settled();
  expect((await getUser(db, reader)).feedFloor).toBeGreaterThan(1_000);
  const expected = await truth(db, reader);
  for (const limit of [1_000, 333]) expect(ids(await scroll(db, reader, limit))).toEqual(expected);
  const cache = await memoryCache(db);
  expect(ids(await scroll(db, reader, 333, cache))).toEqual(expected);
  expect(await verify(db, reader)).toMatchObject({ mismatched: 0 });
});

test('pages end with the feed', async () => {
  const cluster = await testCluster();
  const [author] = (await cluster.users(1)) as [number];
  const posts = [await createPost(cluster, author, 'a'), await createPost(cluster, author, 'b')];
  const read = (limit: number, cursor?: string) =>
    readFeed(cluster.db, author, { limit, ...(cursor && { cursor }) });
  expect(await read(3)).toMatchObject({ userId: author, nextCursor: null });
  const first = await read(1);
  expect(first).toMatchObject({ items: [{ postId: posts[1]!.id, source: 'own', body: 'b' }] });
  expect(first.nextCursor).toBe(String(posts[1]!.id));
  expect(ids((await read(5, first.nextCursor!)).items)).toEqual([posts[0]!.id]);
  expect((await read(5, String(posts[0]!.id))).items).toEqual([]);
});

test('a stranger and a bad cursor are refused, with a cache too', async () => {
  const { db } = await freshDatabase();
  await plantUsers(db, 1);
  for (const cache of [undefined, await memoryCache(db)]) {
    expect(await rejection(readFeed(db, 9, { limit: 10 }, cache))).toMatchObject({ code: 'USER_NOT_FOUND' });
    const badCursor = readFeed(db, 1, { limit: 10, cursor: 'x' }, cache);
    expect(await rejection(badCursor)).toMatchObject({ code: 'INVALID_ID' });
  }
});

test('pushed, pulled and own posts are merged by id, and each comes once', async () => {
  const { db } = await freshDatabase();
  await plantUsers(db, 4);
  await plantFollows(db, [
    [1, 2],
    [1, 3],
  ]);
  await plantPosts(
    db,
    range(1, 30).map((id) => ({ id, authorId: 1 + (id % 4) })),
  );
  await rebuild(db, undefined);
  await makeCelebrity(db, 3, 'both');
  for (const cache of [undefined, await memoryCache(db)]) {
    const items = await scroll(db, 1, 4, cache);
    expect(ids(items)).toEqual(await truth(db, 1));
    const sources = new Map(items.map((item) => [item.authorId, item.source]));
    expect([...sources].sort()).toEqual([
      [1, 'own'],
      [2, 'pushed'],
      [3, 'pushed'],
    ]);
  }
  await db.query(`update users set push_state = 'pull' where id = 3`);
  await db.query(`update celebrities set state = 'pull'`);
  await rebuild(db, undefined);
  const items = await scroll(db, 1, 4);
  expect(ids(items)).toEqual(await truth(db, 1));
  expect(items.find((item) => item.authorId === 3)!.source).toBe('pulled');
});

test('what was unfollowed or deleted is gone at once, with rows and cache still there', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  const worker = await cluster.startWorker();
  const [a, b, reader] = (await cluster.users(3)) as [number, number, number];
  for (const followeeId of [a, b]) await follow(cluster, { followerId: reader, followeeId });
  const posts = [
    await createPost(cluster, a, 'a'),
    await createPost(cluster, b, 'b'),
    await createPost(cluster, b, 'c'),
  ];
  await cluster.settled();
  const cache = await memoryCache(db);
  await readFeed(db, reader, { limit: 10 }, cache);
  await worker.stop(5_000);
  await unfollow(cluster, { followerId: reader, followeeId: a });
  await deletePost(cluster, posts[2]!.id);
  expect((await db.query('select from feed_items where user_id = $1', [reader])).rowCount).toBe(3);
  for (const source of [undefined, cache])
    expect(ids((await readFeed(db, reader, { limit: 10 }, source)).items)).toEqual([posts[1]!.id]);
});

test('a floor that rises while a page is read costs the page nothing', async () => {
  const { db } = await freshDatabase();
  await plantUsers(db, 2);
  await plantFollows(db, [[1, 2]]);
  await plantPosts(
    db,
    range(1, 1_500).map((id) => ({ id, authorId: 2 })),
  );
  await db.query('insert into feed_items select 1, id, author_id from posts');
  let rebuilt = false;
  const between: Store = {
    sharding: () => db.sharding(),
    query: async (text, values) => {
      const result = await db.query(text, values);
      if (!rebuilt) {
        rebuilt = true;
        await rebuild(db, 1);
      }
      return result as never;
    },
  };
  expect(ids((await readFeed(between, 1, { limit: 1_000, cursor: '1001' })).items)).toEqual(
    range(1, 1_000).reverse(),
  );
  expect((await getUser(db, 1)).feedFloor).toBe(500);
});

test('cache, table and truth give the same pages, whatever is materialized', async () => {
  const author = fc.integer({ min: 1, max: 6 });
  const history = fc.record({
    posts: fc.array(author, { minLength: 1, maxLength: 120, size: 'max' }),
    deleted: fc.uniqueArray(fc.integer({ min: 1, max: 120 }), { maxLength: 15 }),
    follows: fc.uniqueArray(fc.integer({ min: 2, max: 6 }), { maxLength: 5 }),
    pulled: fc.option(fc.integer({ min: 2, max: 6 }), { nil: undefined }),
    floor: fc.integer({ min: 0, max: 130 }),
    limit: fc.integer({ min: 1, max: 40 }),
  });
  const { db } = await freshDatabase();
  const cache = await memoryCache(db);
  await fc.assert(
    fc.asyncProperty(history, async ({ posts, deleted, follows, pulled, floor, limit }) => {
      await db.query('truncate users, posts, follows, followers, feed_items, celebrities');
      await plantUsers(db, 6);
      await plantPosts(
        db,
        posts.map((authorId, i) => ({ id: i + 1, authorId })),
      );
      await plantFollows(
        db,
        follows.map((followee) => [1, followee]),
      );
      if (pulled) await makeCelebrity(db, pulled, 'pull');
      await db.query('update posts set deleted_at = now() where id = any($1)', [deleted]);
      await rebuild(db, undefined);
      // A trim or a backfill leaves this state.
      await db.query('update users set feed_floor = $1 where id = 1', [floor]);
      await db.query('delete from feed_items where post_id <= $1', [floor]);
      const own = { authorId: 0, postIds: [], completeAbove: 0 };
      const nothing = { entries: [], completeAbove: 0, floor: 0, followees: [], celebrities: [], own };
      await cache.refill(0, async () => nothing);
      await db.query(`select pg_notify('feedctl_feed_changed', $1)`, [
        `b${Buffer.alloc(4096, 255).toString('base64')}`,
      ]);
      await expect.poll(() => cache.get(0), { interval: 2 }).toBeUndefined();
      const expected = await truth(db, 1);
      expect(ids(await scroll(db, 1, limit))).toEqual(expected);
      const [once, again] = [await scroll(db, 1, limit, cache), await scroll(db, 1, limit, cache)];
      expect(ids(once)).toEqual(expected);
      expect(again).toEqual(once);
      expect(await verify(db, undefined, { cache })).toMatchObject({ mismatched: 0 });
    }),
    { numRuns: 60 },
  );
});
