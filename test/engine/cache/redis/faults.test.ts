import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openRedisCache } from '../../../../src/engine/cache/redis/cache.ts';
import { markCelebrity } from '../../../../src/engine/celebrities/change.ts';
import type { Database } from '../../../../src/engine/database/database.ts';
import { readFeed } from '../../../../src/engine/feed/read/read.ts';
import { keepWarm } from '../../../../src/engine/feed/read/warm.ts';
import { follow, unfollow } from '../../../../src/engine/social/follows.ts';
import { createPost, deletePost, updatePost } from '../../../../src/engine/social/posts.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { testCluster } from '../../../support/cluster.ts';
import { type PrivateRedis, redis, startRedis } from '../../../support/redis.ts';
import { ids, truth } from '../../feed/feeds.ts';
import { heldFeeds } from '../contract.ts';

const url = redis.installed();

const USERS = 12;
const LIMIT = 50;
const ROUND_MS = 400;

async function privateRedis(): Promise<PrivateRedis> {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  return server;
}

async function openCache(server: PrivateRedis, db: Database) {
  const cache = await openRedisCache(server.url, db, silentLog);
  onTestFinished(() => cache.close());
  return cache;
}

/** A cluster that writes to a Redis, and another connection that reads pages from it. */
async function clusterOn(server: PrivateRedis) {
  let writing: Awaited<ReturnType<typeof openRedisCache>> | undefined;
  const cluster = await testCluster(async (db) => {
    writing = await openCache(server, db);
    return writing;
  });
  const reading = await openCache(server, cluster.db);
  return { cluster, reading, writing: writing! };
}

const flush = async (server: PrivateRedis) => {
  const client = new Redis(server.url);
  await client.flushall();
  client.disconnect();
};

describe.skipIf(!url)('with a Redis of its own', () => {
  test.each<[name: string, fault: (server: PrivateRedis) => Promise<unknown>]>([
    ['is flushed', flush],
    [
      'is killed and started again',
      async (server) => {
        await server.down('kill');
        await sleep(ROUND_MS);
        await server.up();
      },
    ],
    [
      'hangs for a while',
      async (server) => {
        server.freeze(true);
        await sleep(3 * ROUND_MS);
        server.freeze(false);
      },
    ],
  ])('while it %s nothing is shown that may not be, and afterwards all feeds are right', async (_, fault) => {
    const server = await privateRedis();
    const { cluster, reading } = await clusterOn(server);
    const { db } = cluster;
    const users = await cluster.users(USERS);
    await cluster.startWorker();
    await markCelebrity(cluster, users[0]!);

    // Acknowledged changes, by the clock of this test. `until`: the follow or the post has ended.
    let clock = 0;
    let running = true;
    const follows = new Map<string, { until: number }>();
    const posts = new Map<
      number,
      {
        authorId: number;
        madeAt: number;
        endingAt: number;
        until: number;
        text: string;
        next?: string;
        textAt: number;
      }
    >();
    const faults: string[] = [];
    const any = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!;
    const change = async () => {
      const [one, other] = [any(users), any(users)];
      const what = Math.random();
      if (what < 0.3 && one !== other) {
        follows.set(`${one} ${other}`, { until: Number.POSITIVE_INFINITY });
        await follow(cluster, { followerId: one, followeeId: other });
      } else if (what < 0.5 && one !== other) {
        await unfollow(cluster, { followerId: one, followeeId: other });
        if (follows.has(`${one} ${other}`)) follows.set(`${one} ${other}`, { until: ++clock });
      } else if (what < 0.85) {
        const text = `text ${Math.random()}`;
        const post = await createPost(cluster, one, text);
        const never = Number.POSITIVE_INFINITY;
        posts.set(post.id, {
          authorId: one,
          madeAt: ++clock,
          endingAt: never,
          until: never,
          text,
          textAt: clock,
        });
      } else {
        const [id, post] = any([...posts].filter(([, known]) => known.endingAt > clock)) ?? [];
        if (!id || !post) return;
        if (what < 0.93) {
          post.endingAt = ++clock;
          await deletePost(cluster, id);
          post.until = ++clock;
        } else {
          const text = `text ${Math.random()}`;
          post.next = text;
          await updatePost(cluster, id, text);
          Object.assign(post, { text, textAt: ++clock });
        }
      }
    };
    const look = async () => {
      const user = any(users);
      const since = ++clock;
      const { items } = await readFeed(db, user, { limit: LIMIT }, reading);
      for (const { postId, authorId, body } of items) {
        const post = posts.get(postId);
        if (!post) continue; // Not yet acknowledged.
        if (post.until < since) faults.push(`deleted ${postId}`);
        if (authorId !== user && !((follows.get(`${user} ${authorId}`)?.until ?? 0) > since))
          faults.push(`stranger ${authorId} in the feed of ${user}`);
        if (post.textAt < since && post.text !== body && post.next !== body && post.endingAt > clock)
          faults.push(`old text of ${postId}`);
      }
      const oldest = items.length === LIMIT ? items.at(-1)!.postId : 0;
      for (const [id, post] of posts)
        if (
          post.authorId === user &&
          post.madeAt < since &&
          post.endingAt > clock &&
          id > oldest &&
          !ids(items).includes(id)
        )
          faults.push(`own post ${id} is missing`);
    };
    const repeat = async (work: () => Promise<void>) => {
      while (running) await work();
    };
    // With one writer the acknowledged changes are known exactly.
    const load = [repeat(change), ...Array.from({ length: 4 }, () => repeat(look))];
    try {
      await sleep(ROUND_MS);
      await fault(server);
      await sleep(ROUND_MS);
      const { hits } = reading.stats();
      await expect.poll(() => reading.stats().hits).toBeGreaterThan(hits + 20);
    } finally {
      running = false;
      await Promise.all(load);
    }
    expect(faults).toEqual([]);
    await cluster.settled();
    for (const user of users) {
      const expected = (await truth(db, user)).slice(0, 1_000);
      expect(ids((await readFeed(db, user, { limit: 1_000 })).items)).toEqual(expected);
      expect(ids((await readFeed(db, user, { limit: LIMIT }, reading)).items)).toEqual(
        expected.slice(0, LIMIT),
      );
    }
  });

  test('a flush is no stampede: readers at the same time share the loads', async () => {
    const server = await privateRedis();
    const { cluster, reading } = await clusterOn(server);
    const users = await cluster.users(5);
    for (const user of users) await createPost(cluster, user, 'a post');
    const readers = Array.from({ length: 200 }, (_, i) => users[i % users.length]!);
    let queries = 0;
    const counted = {
      sharding: () => cluster.db.sharding(),
      query: (text: string, values?: unknown[]) => {
        queries += 1;
        return cluster.db.query(text, values);
      },
    } as Pick<Database, 'query' | 'sharding'>;
    const readAll = () => Promise.all(readers.map((user) => readFeed(counted, user, { limit: 10 }, reading)));
    await readAll();
    await flush(server);
    queries = 0;
    const before = reading.stats().refills;
    for (const [i, page] of (await readAll()).entries())
      expect(page.items).toMatchObject([{ authorId: readers[i], source: 'own' }]);
    expect(reading.stats().refills - before).toBe(users.length);
    // Each feed is loaded once. Texts are loaded by readers that miss them before they are kept.
    expect(queries).toBeLessThan(readers.length / 4);
    queries = 0;
    await readAll();
    expect(queries).toBe(0);
  });

  test('after a flush the feeds of those who read most are read again before they ask', async () => {
    const server = await privateRedis();
    const { cluster, reading } = await clusterOn(server);
    const users = await cluster.users(4);
    onTestFinished(keepWarm(cluster.db, reading));
    const read = (user: number) => readFeed(cluster.db, user, { limit: 10 }, reading);
    for (let i = 0; i < 10; i += 1) for (const user of users.slice(1)) await read(user);
    await flush(server);
    // A read notices the flush.
    await read(users[0]!);
    await expect.poll(async () => (await heldFeeds(reading, users)).length).toBe(users.length);
  });

  test('a change that Redis was not told of is in no page, whoever reads', async () => {
    const server = await privateRedis();
    const { cluster, reading, writing } = await clusterOn(server);
    const [reader, author] = (await cluster.users(2)) as [number, number];
    await follow(cluster, { followerId: reader, followeeId: author });
    const worker = await cluster.startWorker();
    const post = await createPost(cluster, author, 'a post');
    await cluster.settled();
    const read = async () => ids((await readFeed(cluster.db, reader, { limit: 5 }, reading)).items);
    expect(await read()).toEqual([post.id]);
    expect(await read()).toEqual([post.id]);
    // The writer loses its connection to Redis; the reader does not.
    await writing.state.connection.close();
    await worker.stop(5_000);
    await unfollow(cluster, { followerId: reader, followeeId: author });
    expect(await read()).toEqual([]);
    expect(writing.stats().failures).toBeGreaterThan(0);
  });
});
