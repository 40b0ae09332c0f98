import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openRedisCache } from '../../../../src/engine/cache/redis/cache.ts';
import { borrowServers } from '../../../../src/engine/cluster/borrowedServers.ts';
import { openCluster } from '../../../../src/engine/cluster/cluster.ts';
import { startGatewayRole, startWorkerRole } from '../../../../src/engine/cluster/roles.ts';
import { loadConfig } from '../../../../src/engine/config/config.ts';
import { verify } from '../../../../src/engine/feed/verify/verify.ts';
import { signToken } from '../../../../src/engine/gateway/tokens.ts';
import { follow } from '../../../../src/engine/social/follows.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../../src/engine/telemetry/metrics.ts';
import { freshDatabase, testCluster } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { UNLIMITED } from '../../../support/gateways.ts';
import { type PrivateRedis, redis, redisCommand, startRedis } from '../../../support/redis.ts';
import {
  type RedisCluster,
  type SentinelGroup,
  type SlotMove,
  startRedisCluster,
  startSentinelGroup,
} from '../../../support/redisGroups.ts';
import { ask, served } from '../../gateway/served.ts';
import { cacheContract, loaded } from '../contract.ts';

const SECONDS = { timeout: 120_000 };

async function opened(url: string, database = freshDatabase()) {
  const { db } = await database;
  const cache = await openRedisCache(url, db, silentLog);
  onTestFinished(() => cache.close());
  const kept = async (userId: number) => {
    await cache.refill(userId, async () => loaded(userId));
    return (await cache.get(userId)) !== undefined;
  };
  return { cache, db, kept };
}

/** The server that a cache is connected to. */
const portOf = async (
  cache: Awaited<ReturnType<typeof openRedisCache>>,
  servers: readonly PrivateRedis[],
) => {
  for (const server of servers) {
    const info = await redisCommand(server.url, 'INFO', 'server').catch(() => '');
    if (String(info).includes(`run_id:${cache.state.connection.server?.runId}`)) return server.port;
  }
  return undefined;
};

/**
 * Posts and reads through a gateway while `disturb` runs, then asserts that no post is missing and that
 * the cache is used.
 */
async function undisturbed(cacheUrl: string, disturb: (base: string) => Promise<unknown>) {
  const direct = await testCluster();
  const config = await loadConfig({ databaseUrl: direct.url, cacheUrl }, {});
  const cluster = await openCluster(config, { log: silentLog, metrics: await openMetrics() });
  onTestFinished(() => cluster.close());
  await startWorkerRole(cluster, cluster.resources, 'test');
  const options = { host: '127.0.0.1', port: 0, limits: UNLIMITED };
  const { gateway, cache } = await startGatewayRole(cluster, cluster.resources, options);
  const [author, reader] = (await direct.users(2)) as [number, number];
  await follow(cluster, { followerId: reader, followeeId: author });
  const tokens = { author: await signToken(direct.db, author), reader: await signToken(direct.db, reader) };
  const made: string[] = [];
  const post = async () => {
    const body = { text: `post ${made.length}` };
    const answer = await ask(gateway.url, 'POST', '/post/create', { token: tokens.author, body });
    expect(answer.status).toBe(201);
    made.unshift(answer.body.id);
  };
  const read = async () => {
    const answer = await ask(gateway.url, 'GET', '/post/feed', { token: tokens.reader });
    expect(answer.status).toBe(200);
    return answer.body.map(({ id }: { id: string }) => id) as string[];
  };
  const used = async () => {
    const { hits } = cache.stats();
    await read();
    return cache.stats().hits > hits;
  };
  await post();
  await expect.poll(used).toBe(true);
  let disturbing = true;
  const load = (async () => {
    while (disturbing) {
      await post();
      await read();
    }
  })();
  try {
    const shared = cluster.sharedCache as Awaited<ReturnType<typeof openRedisCache>>;
    await disturb(shared.state.base);
    await expect.poll(used, { timeout: 30_000 }).toBe(true);
  } finally {
    disturbing = false;
    await load;
  }
  await direct.settled();
  await expect.poll(used).toBe(true);
  expect(await read()).toEqual(made.slice(0, 20));
  expect(await verify(direct.db, undefined, { cache })).toMatchObject({ mismatched: 0, missing: 0 });
}

/** Asserts that two gateways count requests together. */
async function countTogether(limitsUrl: string) {
  const options = { limits: { ...UNLIMITED, user: 10 }, limitsUrl };
  const here = await served(options);
  const there = await served(options, here.cluster);
  await expect
    .poll(async () => {
      const [user] = (await here.cluster.users(1)) as [number];
      const token = await here.tokenOf(user);
      const statuses: number[] = [];
      for (const gateway of [here, there])
        for (let i = 0; i < 10; i += 1)
          statuses.push((await gateway.ask('GET', '/post/feed', { token })).status);
      return statuses.filter((status) => status === 200).length;
    })
    .toBe(10);
}

describe.skipIf(!redis.installed())('servers behind sentinels', () => {
  let group: SentinelGroup;
  beforeAll(async () => {
    group = await startSentinelGroup();
  }, 60_000);
  afterAll(() => group?.stop());

  cacheContract('sentinel', () => opened(group.url));

  test('a failover and the way back are followed, and no value of before is read', SECONDS, async () => {
    const { cache, kept, db } = await opened(group.url);
    expect(await kept(1)).toBe(true);
    const first = await group.master();
    await group.failOver();
    const second = await group.master();
    // The first master takes writes until the sentinels demote it. A new process uses the second one.
    const { cache: other, kept: keptThere } = await opened(group.url, Promise.resolve({ db, url: '' }));
    expect(await keptThere(2)).toBe(true);
    expect(await portOf(other, [first, second])).toBe(second.port);
    await cache.forget([2]);
    expect(await other.get(2)).toBeUndefined();
    await expect.poll(() => portOf(cache, [first, second]), { timeout: 30_000 }).toBe(second.port);
    expect(await cache.get(1)).toBeUndefined();
    await expect.poll(() => kept(1)).toBe(true);
    // The first master copies all values, and does not restart: its run id is the one of before.
    const replication = async () => String(await redisCommand(first.url, 'INFO'));
    await expect.poll(replication, { timeout: 30_000 }).toMatch(/master_link_status:up/);
    const copied = (await redisCommand(first.url, 'KEYS', `${cache.state.base}*`)) as string[];
    expect(copied.length).toBeGreaterThan(0);
    await cache.forget([1]);
    await group.failOver();
    // A process that starts now has never used the second one.
    const { cache: late } = await opened(group.url, Promise.resolve({ db, url: '' }));
    expect(await portOf(late, [first, second])).toBe(first.port);
    expect(await late.get(1)).toBeUndefined();
    await expect.poll(() => kept(3), { timeout: 30_000 }).toBe(true);
    await expect.poll(() => portOf(cache, [first, second]), { timeout: 30_000 }).toBe(first.port);
  });

  test('the master is killed under a gateway and a worker, and no post is missing', SECONDS, async () => {
    await undisturbed(group.url, async () => {
      const master = await group.master();
      await master.down('kill');
      await expect.poll(async () => (await group.master()).port, { timeout: 30_000 }).not.toBe(master.port);
      await master.up();
    });
  });

  test('all gateways count requests together', SECONDS, () => countTogether(group.url));

  test('a name that no sentinel knows, and a sentinel as the server, are refused with the remedy', async () => {
    const { db } = await freshDatabase();
    const unknown = await rejection(openRedisCache(group.url.replace(/feeds$/, 'others'), db, silentLog));
    expect(unknown).toMatchObject({ code: 'CACHE_UNSUITABLE', message: expect.stringContaining('others') });
    expect(unknown.suggestions.join()).toContain('sentinel masters');
    const direct = await rejection(openRedisCache(group.sentinels[0]!.url, db, silentLog));
    expect(direct).toMatchObject({ code: 'CACHE_UNSUITABLE', message: expect.stringContaining('sentinel') });
    expect(direct.suggestions.join()).toContain('redis+sentinel://');
    const master = await group.master();
    const other = await rejection(
      openRedisCache(`redis+sentinel://127.0.0.1:${master.port}/feeds`, db, silentLog),
    );
    expect(other).toMatchObject({
      code: 'CACHE_UNSUITABLE',
      message: expect.stringContaining('is no sentinel'),
    });
  });

  test(
    'while all sentinels are down a role starts without the cache, and uses it later',
    SECONDS,
    async () => {
      for (const sentinel of group.sentinels) await sentinel.down('stop');
      const { cache, kept } = await opened(group.url);
      expect(cache.health()).toMatchObject({
        ready: false,
        detail: expect.stringContaining('no sentinel of'),
      });
      expect(await kept(1)).toBe(false);
      await group.sentinels[1]!.up();
      await expect.poll(() => kept(1), { timeout: 30_000 }).toBe(true);
      for (const at of [0, 2]) await group.sentinels[at]!.up();
    },
  );
});

describe.skipIf(!redis.installed())('a Redis Cluster', () => {
  let group: RedisCluster;
  beforeAll(async () => {
    group = await startRedisCluster();
  }, 60_000);
  afterAll(() => group?.stop());

  cacheContract('cluster', () => opened(group.url));

  test('all keys of a cluster are in one slot, and a plain server has them as before', async () => {
    const { cache, kept } = await opened(group.url);
    expect(await kept(1)).toBe(true);
    const { base } = cache.state;
    expect(base).toMatch(/^feedctl:\{[0-9a-f]{12}\}[\d.]+:$/);
    const owner = await group.ownerOf(base);
    const keysAt = async (server: PrivateRedis) =>
      ((await redisCommand(server.url, 'KEYS', `${base}*`)) as string[]).length;
    expect(await keysAt(owner)).toBeGreaterThan(0);
    for (const node of group.nodes) if (node !== owner) expect(await keysAt(node)).toBe(0);
    const plain = await startRedis();
    onTestFinished(() => plain.stop());
    expect((await opened(plain.url)).cache.state.base).toMatch(/^feedctl:[^{}:]+:$/);
  });

  test('a plain URL of a node is refused and names the right one, and the other way round', async () => {
    const { db } = await freshDatabase();
    const refused = await rejection(openRedisCache(group.nodes[0]!.url, db, silentLog));
    expect(refused).toMatchObject({
      code: 'CACHE_UNSUITABLE',
      suggestions: [expect.stringContaining('redis+cluster://')],
    });
    const plain = await startRedis();
    onTestFinished(() => plain.stop());
    const single = await rejection(
      openRedisCache(plain.url.replace('redis:', 'redis+cluster:'), db, silentLog),
    );
    expect(single).toMatchObject({
      code: 'CACHE_UNSUITABLE',
      message: expect.stringContaining('no node of a Redis Cluster'),
    });
  });

  const moves = test.for<SlotMove>(['key by key', 'atomically']);
  /** Not every server can move a slot atomically. */
  const canMove = async (how: SlotMove) => how === 'key by key' || (await group.canMoveAtomically());

  moves(
    'a slot that moves away %s and comes back with all its keys brings no old value',
    SECONDS,
    async (how, { skip }) => {
      if (!(await canMove(how))) skip();
      const { cache, kept, db } = await opened(group.url);
      expect(await kept(1)).toBe(true);
      const { base } = cache.state;
      const first = await group.ownerOf(base);
      const second = group.nodes.find((node) => node !== first)!;
      await group.move(base, second, how);
      const copied = async (server: PrivateRedis) =>
        ((await redisCommand(server.url, 'KEYS', `${base}*`)) as string[]).length;
      expect(await copied(second)).toBeGreaterThan(0);
      await expect.poll(() => kept(2), { timeout: 30_000 }).toBe(true);
      expect(await portOf(cache, group.nodes)).toBe(second.port);
      expect(await cache.get(1)).toBeUndefined();
      // This change is reported to the second node only.
      await cache.forget([1]);
      await group.move(base, first, how);
      const { cache: late } = await opened(group.url, Promise.resolve({ db, url: '' }));
      expect(late.health()).toMatchObject({ ready: true });
      expect(await late.get(1)).toBeUndefined();
      await expect.poll(() => kept(3), { timeout: 30_000 }).toBe(true);
      expect(await portOf(cache, group.nodes)).toBe(first.port);
      expect(await cache.get(1)).toBeUndefined();
    },
  );

  moves(
    'a slot moves %s under a gateway and a worker, and no post is missing',
    SECONDS,
    async (how, { skip }) => {
      if (!(await canMove(how))) skip();
      await undisturbed(group.url, async (base) => {
        const owner = await group.ownerOf(base);
        await group.move(base, group.nodes.find((node) => node !== owner)!, how);
      });
    },
  );

  test('all gateways count requests together', SECONDS, () => countTogether(group.url));

  test('what a demo borrows is looked for on every node', async () => {
    const { db, kept } = await opened(group.url);
    expect(await kept(1)).toBe(true);
    const config = await loadConfig({ cacheUrl: group.url }, {});
    const taken = await rejection(borrowServers(config));
    expect(taken).toMatchObject({ code: 'CLUSTER_NOT_EMPTY', message: expect.stringContaining('feedctl:{') });
    for (const node of group.nodes) await redisCommand(node.url, 'FLUSHALL');
    const borrowed = await borrowServers(config);
    await borrowed.identify(db);
    expect(await kept(2)).toBe(true);
    await borrowed.clear();
    for (const node of group.nodes) {
      const client = new Redis(node.url);
      onTestFinished(() => client.disconnect());
      expect(await client.keys('feedctl:*')).toEqual([]);
    }
  });

  test(
    'the node of the slot is killed under a gateway and a worker, its replica goes on, and no post is missing',
    SECONDS,
    async () => {
      await undisturbed(group.url, async (base) => {
        const owner = await group.ownerOf(base);
        await group.addReplica(owner);
        await owner.down('kill');
        await expect
          .poll(async () => (await group.ownerOf(base)).port, { timeout: 30_000 })
          .not.toBe(owner.port);
      });
    },
  );

  test('a cluster that is down is named, and used as soon as it is complete', SECONDS, async () => {
    const other = await startRedisCluster();
    onTestFinished(() => other.stop());
    const { cache, kept } = await opened(other.url);
    const owner = await other.ownerOf(cache.state.base);
    const lost = other.nodes.find((node) => node !== owner)!;
    await lost.down('kill');
    await expect.poll(() => kept(1), { timeout: 30_000 }).toBe(false);
    await expect.poll(() => cache.health().detail).toMatch(/is down: .*(CLUSTERDOWN|cluster is down)/);
    expect(cache.health().fix).toContain('--cluster check');
    await lost.up();
    await expect.poll(() => kept(2), { timeout: 30_000 }).toBe(true);
  });
});
