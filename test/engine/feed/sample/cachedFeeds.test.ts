import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { FeedCache } from '../../../../src/engine/cache/cache.ts';
import { openMemoryCache } from '../../../../src/engine/cache/memory/cache.ts';
import { openRedisCache } from '../../../../src/engine/cache/redis/cache.ts';
import type { Database } from '../../../../src/engine/database/database.ts';
import { readFeed } from '../../../../src/engine/feed/read/read.ts';
import { sampleCachedFeeds, sampleFeeds } from '../../../../src/engine/feed/sample/schedule.ts';
import type { Sampling } from '../../../../src/engine/model/sample.ts';
import { follow, unfollow } from '../../../../src/engine/social/follows.ts';
import { createPost, deletePost, updatePost } from '../../../../src/engine/social/posts.ts';
import { ProcessStats } from '../../../../src/engine/stats/process.ts';
import { readSampling } from '../../../../src/engine/store/samples.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { type TestCluster, testCluster } from '../../../support/cluster.ts';
import { redis, startRedis } from '../../../support/redis.ts';

const SHORT = { everyMs: 40, minAgeMs: 0 } as const;
const installed = redis.installed();

/** Waits until the samples satisfy a condition. */
async function until({ db }: TestCluster, condition: (found: Sampling) => boolean): Promise<Sampling> {
  for (;;) {
    const found = await readSampling(db);
    if (condition(found)) return found;
    await sleep(20);
  }
}

/** A reader with three posts, whose feed `cache` holds. */
async function cachedFeed(cluster: TestCluster, cache: FeedCache) {
  await cluster.startWorker();
  const [author, reader] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: reader, followeeId: author });
  await cluster.settled();
  const posts: number[] = [];
  for (const text of ['one', 'two', 'three']) posts.push((await createPost(cluster, author, text)).id);
  await cluster.settled();
  const read = async () => (await readFeed(cluster.db, reader, { limit: 20 }, cache)).items;
  expect(await read()).toHaveLength(3);
  return { cluster, cache, author, reader, posts, read, stats: new ProcessStats() };
}
type Found = Awaited<ReturnType<typeof cachedFeed>>;

async function inMemory(): Promise<Found> {
  const cluster = await testCluster();
  const cache = await openMemoryCache(cluster.db);
  onTestFinished(() => cache.close());
  return cachedFeed(cluster, cache);
}

/** Posts, edits, deletes, follows and unfollows until enough samples were compared. */
async function useFeed({ cluster, author, reader, read, stats }: Found): Promise<void> {
  const pair = { followerId: reader, followeeId: author };
  for (let round = 0; round < 60 || stats.sampled < 60; round += 1) {
    const { id } = await createPost(cluster, author, `post ${round}`);
    if (round % 3 === 0) await unfollow(cluster, pair);
    if (round % 4 === 0) await deletePost(cluster, id, { authorId: author });
    else await updatePost(cluster, id, `edited ${round}`, { authorId: author });
    await follow(cluster, pair);
    await read();
  }
}

/** Adds a post and its row without a notification. */
async function addSilently({ db }: TestCluster, author: number, reader: number): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    'select max(id) + 1 as id from posts where author_id = $1',
    [author],
  );
  const { id } = rows[0]!;
  await db.transaction(async (session) => {
    await session.query(
      `insert into posts (author_id, id, body, created_at) values ($1, $2, 'silent', clock_timestamp())`,
      [author, id],
    );
    await session.query('insert into feed_items (user_id, post_id, author_id) values ($1, $2, $3)', [
      reader,
      id,
      author,
    ]);
  });
  return id;
}

test('a feed in the memory of a gateway that missed a notification is found and dropped', async () => {
  const { cluster, cache, author, reader, read, stats } = await inMemory();
  onTestFinished(sampleCachedFeeds({ ...cluster, cache, stats }, SHORT));
  while (stats.sampled < 5) await sleep(10);
  expect((await readSampling(cluster.db)).healed).toEqual([]);
  const added = await addSilently(cluster, author, reader);
  expect(await read()).toHaveLength(3);
  const found = await until(cluster, ({ healed }) => healed.length > 0);
  expect(found.healed).toMatchObject([{ userId: reader, kind: 'cache', postId: added }]);
  expect(found.last).toEqual(found.healed[0]);
  expect(found.mismatched).toEqual({ missing: 0, strangers: 0, cache: 1 });
  expect((await read()).map(({ postId }) => postId)[0]).toBe(added);
  expect(stats.report().sampled).toBe(stats.sampled);
});

test('a busy feed in the memory of a gateway is no mismatch', async () => {
  const found = await inMemory();
  onTestFinished(sampleCachedFeeds({ ...found.cluster, ...found }, { everyMs: 10 }));
  await useFeed(found);
  expect((await readSampling(found.cluster.db)).healed).toEqual([]);
});

describe.skipIf(!installed)('with Redis', () => {
  /** The cluster and the gateway have connections of their own. */
  async function inRedis(): Promise<Found & { writing: FeedCache }> {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const open = async (db: Database) => {
      const cache = await openRedisCache(server.url, db, silentLog);
      onTestFinished(() => cache.close());
      return cache;
    };
    let writing: FeedCache | undefined;
    const cluster = await testCluster(async (db) => {
      writing = await open(db);
      return writing;
    });
    return { ...(await cachedFeed(cluster, await open(cluster.db))), writing: writing! };
  }

  const SAMPLERS: readonly [string, (found: Awaited<ReturnType<typeof inRedis>>) => () => Promise<void>][] = [
    ['a gateway', ({ cluster, cache, stats }) => sampleCachedFeeds({ ...cluster, cache, stats }, SHORT)],
    [
      'a worker',
      ({ cluster, writing, stats }) =>
        sampleFeeds({ ...cluster, sharedCache: writing, stats, id: 'sampler' }, SHORT),
    ],
  ];
  const SPOILERS: readonly [string, (found: Found) => Promise<unknown>, readonly string[]][] = [
    [
      'lacks a post that a role without the cache has written',
      ({ cluster, author, reader }) => addSilently(cluster, author, reader),
      ['silent', 'three', 'two', 'one'],
    ],
    [
      'has a post that the database does not have',
      async ({ cluster: { db }, posts }) => {
        await db.query('delete from feed_items where post_id = $1', [posts[1]]);
        await db.query('delete from posts where id = $1', [posts[1]]);
      },
      ['three', 'one'],
    ],
    [
      'has an old text',
      ({ cluster: { db }, posts }) =>
        db.query(`update posts set body = 'edited', version = version + 1 where id = $1`, [posts[2]]),
      ['edited', 'two', 'one'],
    ],
    [
      'has posts of an author who is no longer followed',
      async ({ cluster: { db }, reader }) => {
        await db.query('delete from feed_items where user_id = $1', [reader]);
        await db.query('delete from follows where follower_id = $1', [reader]);
      },
      [],
    ],
  ];

  describe.each(SAMPLERS)('%s finds and drops a cached feed that', (_, startSampling) => {
    test.each(SPOILERS)('%s', async (_, spoil, texts) => {
      const found = await inRedis();
      const { cluster, reader, read, stats } = found;
      onTestFinished(startSampling(found));
      while (stats.sampled < 4) await sleep(10);
      expect(await readSampling(cluster.db)).toMatchObject({ healed: [], differing: [] });
      await spoil(found);
      const { healed } = await until(cluster, (one) => one.healed.length > 0);
      expect(healed[0]).toMatchObject({ userId: reader, kind: 'cache' });
      expect((await read()).map(({ body }) => body)).toEqual(texts);
    });
  });

  test('a busy feed is no mismatch', async () => {
    const found = await inRedis();
    for (const [, startSampling] of SAMPLERS) onTestFinished(startSampling(found));
    await useFeed(found);
    expect(await readSampling(found.cluster.db)).toMatchObject({ healed: [], differing: [] });
  });
});
