import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openRedisCache, type RedisFeedCache } from '../../../../src/engine/cache/redis/cache.ts';
import { Database } from '../../../../src/engine/database/database.ts';
import { migrate } from '../../../../src/engine/database/migrate.ts';
import { adoptDatabase, Identity } from '../../../../src/engine/identity/identity.ts';
import { ROW_BYTES, writeId } from '../../../../src/engine/model/messages.ts';
import type { Log } from '../../../../src/engine/telemetry/log.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { redis, startRedis } from '../../../support/redis.ts';
import { noReplicas, type Replica, startReplica } from '../../../support/replicas.ts';
import { loaded } from '../contract.ts';

/** A process with its own sessions and its own cache. */
interface Process {
  readonly db: Database;
  readonly identity: Identity;
  readonly cache: RedisFeedCache;
  readonly reasons: string[];
  close(): Promise<void>;
}

async function open(url: string, redisUrl: string): Promise<Process> {
  const db = new Database(url, { maxSessions: 3 });
  const reasons: string[] = [];
  const log: Log = {
    info() {},
    error() {},
    warn: (fields: { reason?: string }) => void (fields.reason && reasons.push(fields.reason)),
  };
  const identity = await Identity.open(db, log);
  const cache = await openRedisCache(redisUrl, db, log, undefined, identity);
  await cache.begin();
  const close = async () => {
    await cache.close();
    await db.close();
  };
  onTestFinished(close);
  return { db, identity, cache, reasons, close };
}

async function privateRedis() {
  const server = await startRedis();
  const client = new Redis(server.url);
  onTestFinished(async () => {
    client.disconnect();
    await server.stop();
  });
  return { url: server.url, client };
}

/** A migrated database of a server that can be copied, a Redis, and a process. */
async function beginning() {
  const server = await startReplica();
  const admin = new Database(server.url, { maxSessions: 2 });
  await migrate(admin);
  await admin.close();
  const { url, client } = await privateRedis();
  const first = await open(server.url, url);
  return { server, redisUrl: url, client, first };
}

const keep = (cache: RedisFeedCache, user: number, ...posts: number[]) =>
  cache.refill(user, async () => loaded(...posts));

const postsOf = async ({ cache }: Process, user: number) =>
  (await cache.get(user))?.entries.map(({ postId }) => postId);

/** Waits until the mark in Redis is newer than every write. */
async function covered(client: Redis): Promise<void> {
  await expect
    .poll(async () => {
      const [key] = await client.keys('feedctl:*:mark');
      const { covered, writes } = key ? await client.hgetall(key) : {};
      return covered !== undefined && covered === writes;
    })
    .toBe(true);
}

async function restart(server: Replica, how: 'fast' | 'immediate' = 'fast'): Promise<void> {
  await server.stop(how);
  await server.start();
}

/** Rows in COPY format. */
function rowOf(userId: number, postId: number, authorId: number): Buffer {
  const row = Buffer.alloc(ROW_BYTES);
  writeId(row, 6, userId);
  writeId(row, 18, postId);
  writeId(row, 30, authorId);
  return row;
}

describe.skipIf(!redis.installed() || noReplicas)('servers that are copied and put back', () => {
  test('a restart of the database server leaves the cache as it is, for running and for new processes', async () => {
    const { server, redisUrl, client, first } = await beginning();
    const second = await open(server.url, redisUrl);
    await keep(first.cache, 1, 2, 1);
    // At once: the last write has no mark yet.
    await restart(server, 'immediate');
    await expect.poll(() => postsOf(first, 1)).toEqual([2, 1]);
    await expect.poll(() => postsOf(second, 1)).toEqual([2, 1]);
    await covered(client);
    await Promise.all([first.close(), second.close()]);
    await restart(server);
    const third = await open(server.url, redisUrl);
    await expect.poll(() => postsOf(third, 1)).toEqual([2, 1]);
    expect(third.identity.lineage).toBe(first.identity.lineage);
    expect(third.cache.state.epoch.number).toBe(0);
  });

  test('a new process does not trust what was written in the last moments before a restart', async () => {
    const { server, redisUrl, client, first } = await beginning();
    await keep(first.cache, 1, 1);
    await covered(client);
    await first.close();
    // A process that has ended before its mark.
    await client.hincrby((await client.keys('feedctl:*:mark'))[0]!, 'writes', 1);
    await restart(server);
    const second = await open(server.url, redisUrl);
    expect(await postsOf(second, 1)).toBeUndefined();
    expect(second.identity.lineage).toBe(first.identity.lineage);
    await keep(second.cache, 1, 1);
    await expect.poll(() => postsOf(second, 1)).toEqual([1]);
  });

  test('a data directory that is put back opens a lineage whose cache is empty', async () => {
    const { server, redisUrl, first } = await beginning();
    await keep(first.cache, 1, 1);
    await first.close();
    await server.stop();
    const backup = await server.copy();
    await server.start();
    const second = await open(server.url, redisUrl);
    await expect.poll(() => postsOf(second, 1)).toEqual([1]);
    await second.cache.push([rowOf(1, 9, 1)]);
    await expect.poll(() => postsOf(second, 1)).toEqual([9, 1]);
    await second.close();
    await server.stop();
    server.putBack(backup);
    await server.start();
    const third = await open(server.url, redisUrl);
    expect(await postsOf(third, 1)).toBeUndefined();
    expect(third.identity.lineage).not.toBe(first.identity.lineage);
    expect(third.reasons).toEqual(['the cache has seen commits that the database lacks']);
    await keep(third.cache, 1, 1);
    await expect.poll(() => postsOf(third, 1)).toEqual([1]);
  });

  test('processes that live through it start empty too, with the lower epoch of the database', async () => {
    const { server, redisUrl, client, first } = await beginning();
    const second = await open(server.url, redisUrl);
    await keep(first.cache, 1, 1);
    await covered(client);
    await server.stop();
    const backup = await server.copy();
    await server.start();
    await expect.poll(() => postsOf(first, 1)).toEqual([1]);
    await first.cache.state.epoch.raise();
    await keep(first.cache, 1, 9, 1);
    await expect.poll(() => postsOf(second, 1)).toEqual([9, 1]);
    await covered(client);
    await server.stop();
    server.putBack(backup);
    await server.start();
    for (const one of [first, second]) {
      await expect
        .poll(() =>
          one.identity.refresh().then(
            () => true,
            () => false,
          ),
        )
        .toBe(true);
      expect(await postsOf(one, 1)).toBeUndefined();
    }
    expect(second.identity.lineage).toBe(first.identity.lineage);
    await expect
      .poll(async () => {
        await keep(first.cache, 1, 1);
        return postsOf(second, 1);
      })
      .toEqual([1]);
    expect(first.cache.state.epoch.number).toBe(0);
  });

  test('a running copy and the original end in different lineages, and neither reads the other', async () => {
    const { server, redisUrl, client, first: original } = await beginning();
    await keep(original.cache, 1, 1);
    await covered(client);
    const { lineage } = original.identity;
    const twin = await server.copy();
    await twin.start();
    // Its database has the newest mark, so it takes the state over.
    const copy = await open(twin.url, redisUrl);
    await expect.poll(() => postsOf(copy, 1)).toEqual([1]);
    await copy.cache.push([rowOf(1, 8, 1)]);
    await original.cache.push([rowOf(1, 9, 1)]);
    // Closing the lineage that the original leaves may empty the copy's cache once.
    expect([undefined, [8, 1]]).toContainEqual(await postsOf(copy, 1));
    expect(await postsOf(original, 1)).toBeUndefined();
    await keep(copy.cache, 1, 8, 1);
    await keep(original.cache, 1, 9, 1);
    await expect.poll(() => postsOf(original, 1)).toEqual([9, 1]);
    await expect.poll(() => postsOf(copy, 1)).toEqual([8, 1]);
    expect(copy.identity.lineage).toBe(lineage);
    expect(original.identity.lineage).not.toBe(lineage);
  });

  test('a copy that starts right after a change of the original does not see it', async () => {
    const { server, redisUrl, client, first: original } = await beginning();
    await keep(original.cache, 1, 1);
    await covered(client);
    const twin = await server.copy();
    await twin.start();
    await original.cache.push([rowOf(1, 9, 1)]);
    const copy = await open(twin.url, redisUrl);
    expect((await postsOf(copy, 1)) ?? []).not.toContain(9);
    await keep(copy.cache, 2, 2);
    expect(await postsOf(original, 2)).toBeUndefined();
    await keep(original.cache, 1, 9, 1);
    await expect.poll(() => postsOf(original, 1)).toEqual([9, 1]);
    expect((await postsOf(copy, 1)) ?? []).not.toContain(9);
    expect(copy.identity.lineage).not.toBe(original.identity.lineage);
  });
});

describe.skipIf(!redis.installed())('one database', () => {
  test('no change is reported to an earlier lineage once another process uses the new one', async () => {
    const { url, db } = await freshDatabase();
    const redisServer = await privateRedis();
    // It writes and never reads, so it does not listen.
    const worker = await open(url, redisServer.url);
    await worker.cache.push([rowOf(1, 1, 1)]);
    await adoptDatabase(db);
    const reader = await open(url, redisServer.url);
    expect(reader.identity.lineage).not.toBe(worker.identity.lineage);
    await keep(reader.cache, 1, 1);
    await worker.cache.push([rowOf(1, 2, 1)]);
    await expect.poll(() => postsOf(reader, 1)).toEqual([2, 1]);
    expect(worker.identity.lineage).toBe(reader.identity.lineage);
  });

  test('a reader leaves a lineage when another process opens the next one', async () => {
    const { url, db } = await freshDatabase();
    const redisServer = await privateRedis();
    const reader = await open(url, redisServer.url);
    await keep(reader.cache, 1, 1);
    await expect.poll(() => postsOf(reader, 1)).toEqual([1]);
    const { lineage } = reader.identity;
    await adoptDatabase(db);
    await expect.poll(() => reader.identity.lineage).not.toBe(lineage);
    expect(await postsOf(reader, 1)).toBeUndefined();
    await expect
      .poll(async () => {
        await keep(reader.cache, 1, 1);
        return postsOf(reader, 1);
      })
      .toEqual([1]);
  });

  test('a mark is made soon after a write, and none while nothing is written', async () => {
    const { url, db } = await freshDatabase();
    const { url: redisUrl, client } = await privateRedis();
    const [one, other] = [await open(url, redisUrl), await open(url, redisUrl)];
    await keep(one.cache, 1, 1);
    await keep(other.cache, 2, 1);
    await covered(client);
    const marks = async () =>
      (await db.query<{ count: number }>('select count(*) as count from lineage_marks')).rows[0]!.count;
    const before = await marks();
    for (let i = 0; i < 40; i += 1) {
      await one.cache.get(1);
      await other.cache.get(2);
    }
    await Promise.all([one.close(), other.close()]);
    expect(await marks()).toBe(before);
  });

  test('a process of the version before shares the state, and each change reaches it once', async () => {
    const { url } = await freshDatabase();
    const { url: redisUrl, client } = await privateRedis();
    const process = await open(url, redisUrl);
    const key = (await client.keys('feedctl:*:state'))[0]!;
    /** Script of the earlier version: it takes any state of its epoch or of a later one. */
    const adopt = async (epoch: number) =>
      String(
        await client.eval(
          `local state = redis.call('GET', KEYS[1])
           if state and tonumber(string.match(state, '^%d+')) >= tonumber(ARGV[1]) then return state end
           state = ARGV[1] .. ':' .. ARGV[2]
           redis.call('SET', KEYS[1], state, 'EX', 604800)
           return state`,
          1,
          key,
          epoch,
          'abcdef012345',
        ),
      );
    await keep(process.cache, 1, 1);
    const text = await adopt(0);
    expect(text).toBe(`0:${text.split(':')[1]}:${process.identity.instance}`);
    expect(Number.parseInt(text, 10)).toBe(0);
    // The earlier version starts an epoch; this one adds its server and keeps the nonce.
    await process.cache.state.epoch.raise();
    expect(await adopt(1)).toBe('1:abcdef012345');
    await keep(process.cache, 1, 1);
    const shared = await adopt(1);
    expect(shared).toBe(`1:abcdef012345:${process.identity.instance}`);
    await expect.poll(() => postsOf(process, 1)).toEqual([1]);
    expect(await adopt(1)).toBe(shared);
  });
});
