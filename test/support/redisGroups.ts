import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { type PrivateRedis, redisCommand, startRedis } from './redis.ts';
import { freePorts, type RunningServer } from './servers.ts';

const GROUP = 'feeds';
const SENTINELS = 3;
const DOWN_AFTER_MS = 1_000;
const READY_MS = 60_000;
const SLOTS = 16_384;
/** Commands that move slots atomically, in Valkey 9 and Redis 8.4. */
const VALKEY_MOVE = 'cluster|migrateslots';
const REDIS_MOVE = 'cluster|migration';

async function until(what: string, done: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + READY_MS; !(await done().catch(() => false)); await sleep(50))
    if (Date.now() > end) throw new Error(`${what} did not happen within a minute`);
}

export interface SentinelGroup extends RunningServer {
  readonly sentinels: readonly PrivateRedis[];
  /** The server that the sentinels name. */
  master(): Promise<PrivateRedis>;
  /** Makes the sentinels promote the other server, and waits until they name it. */
  failOver(): Promise<void>;
}

/** Starts a master, a replica and three sentinels. */
export async function startSentinelGroup(): Promise<SentinelGroup> {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-sentinel-'));
  const running: PrivateRedis[] = [];
  const stop = async () => {
    for (const server of running.reverse()) await server.stop();
    await rm(directory, { recursive: true, force: true });
  };
  const start = async (...args: string[]) => {
    const server = await startRedis(args);
    running.push(server);
    return server;
  };
  const one = await start();
  const other = await start('--replicaof', '127.0.0.1', String(one.port));
  const sentinels: PrivateRedis[] = [];
  for (let i = 0; i < SENTINELS; i += 1) {
    const file = join(directory, `${i}.conf`);
    const lines = [
      `sentinel monitor ${GROUP} 127.0.0.1 ${one.port} 2`,
      `sentinel down-after-milliseconds ${GROUP} ${DOWN_AFTER_MS}`,
      `sentinel failover-timeout ${GROUP} 3000`,
    ];
    await writeFile(file, `${lines.join('\n')}\n`);
    sentinels.push(await start(file, '--sentinel'));
  }
  const ask = (server: PrivateRedis, ...words: string[]) => redisCommand(server.url, 'SENTINEL', ...words);
  const fields = async (server: PrivateRedis) => {
    const words = (await ask(server, 'MASTER', GROUP)) as string[];
    return new Map(words.flatMap((word, i) => (i % 2 === 0 ? [[word, words[i + 1]!]] : [])));
  };
  const namedBy = async (server: PrivateRedis) => {
    const [, port] = (await ask(server, 'GET-MASTER-ADDR-BY-NAME', GROUP)) as [string, string];
    return [one, other].find((each) => each.port === Number(port))!;
  };
  const isComplete = async (server: PrivateRedis) => {
    const known = await fields(server);
    return known.get('num-other-sentinels') === '2' && known.get('num-slaves') === '1';
  };
  await until('a complete group of sentinels', async () =>
    (await Promise.all(sentinels.map(isComplete))).every(Boolean),
  );
  const hosts = sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',');
  return {
    url: `redis+sentinel://${hosts}/${GROUP}`,
    sentinels,
    stop,
    master: () => namedBy(sentinels[0]!),
    async failOver() {
      const before = await namedBy(sentinels[0]!);
      // A replica may not be in sync yet, and a sentinel refuses a second failover for some seconds.
      await until('a failover', async () => (await ask(sentinels[0]!, 'FAILOVER', GROUP)) === 'OK');
      await until('the new master', async () => {
        const named = await Promise.all(sentinels.map(namedBy));
        return named.every((server) => server !== before);
      });
    },
  };
}

export interface RedisCluster extends RunningServer {
  readonly nodes: readonly PrivateRedis[];
  /** The node that owns the slot of a key, by the view of a node that runs. */
  ownerOf(key: string): Promise<PrivateRedis>;
  /** Starts a replica of a node, and waits until it is in sync. */
  addReplica(of: PrivateRedis): Promise<PrivateRedis>;
  /** Moves the slot of a key, with all its keys, to another node. */
  move(key: string, to: PrivateRedis, how?: SlotMove): Promise<void>;
  /** Returns whether the nodes can move a slot with all its keys in one step. */
  canMoveAtomically(): Promise<boolean>;
}

/** Clients send the keys one by one, or the nodes copy them and then change the owner in one step. */
export type SlotMove = 'key by key' | 'atomically';

/** Starts a Redis Cluster of three nodes without replicas. */
export async function startRedisCluster(): Promise<RedisCluster> {
  const running: PrivateRedis[] = [];
  const buses = new Map<PrivateRedis, number>();
  const start = async () => {
    // The default port of the cluster bus is 10,000 above, which may exceed 65,535.
    const [bus] = (await freePorts(1)) as [number];
    const own = ['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-node-timeout', '1000'];
    const server = await startRedis(own);
    running.push(server);
    buses.set(server, bus);
    return server;
  };
  const cluster = (server: PrivateRedis, ...words: (string | number)[]) =>
    redisCommand(server.url, 'CLUSTER', ...words);
  const meet = (server: PrivateRedis, other: PrivateRedis) =>
    cluster(server, 'MEET', '127.0.0.1', other.port, buses.get(other)!);
  const agree = (servers: readonly PrivateRedis[]) =>
    until('a complete cluster', async () => {
      const infos = await Promise.all(servers.map((server) => cluster(server, 'INFO')));
      const complete = `cluster_known_nodes:${servers.length}\r`;
      return infos.every(
        (info) => String(info).includes('cluster_state:ok') && String(info).includes(complete),
      );
    });
  const nodes = [await start(), await start(), await start()] as const;
  const share = Math.ceil(SLOTS / nodes.length);
  for (const [i, node] of nodes.entries()) {
    await cluster(node, 'SET-CONFIG-EPOCH', i + 1);
    await cluster(node, 'ADDSLOTSRANGE', share * i, Math.min(SLOTS, share * (i + 1)) - 1);
  }
  for (const node of nodes.slice(1)) await meet(nodes[0], node);
  await agree(nodes);
  const idOf = async (server: PrivateRedis) => String(await cluster(server, 'MYID'));
  const alive = async () => {
    for (const server of running) if (await idOf(server).catch(() => undefined)) return server;
    throw new Error('no node runs');
  };
  const ownerBy = async (node: PrivateRedis, slot: number) => {
    const ranges = (await cluster(node, 'SLOTS')) as [number, number, [string, number]][];
    const [, port] = ranges.find(([from, to]) => from <= slot && slot <= to)![2];
    return running.find((server) => server.port === port)!;
  };
  const ownerOf = async (key: string) => {
    const node = await alive();
    return ownerBy(node, Number(await cluster(node, 'KEYSLOT', key)));
  };
  const moveKeys = async (slot: number, from: PrivateRedis, to: PrivateRedis) => {
    await cluster(to, 'SETSLOT', slot, 'IMPORTING', await idOf(from));
    await cluster(from, 'SETSLOT', slot, 'MIGRATING', await idOf(to));
    const client = new Redis(from.url);
    try {
      for (;;) {
        const keys = (await client.callBuffer('CLUSTER', 'GETKEYSINSLOT', slot, 100)) as Buffer[];
        if (keys.length === 0) break;
        await client.call('MIGRATE', '127.0.0.1', to.port, '', 0, 5_000, 'KEYS', ...keys);
      }
    } finally {
      client.disconnect();
    }
    for (const node of [to, from, ...nodes]) await cluster(node, 'SETSLOT', slot, 'NODE', await idOf(to));
  };
  const knows = async (server: PrivateRedis, command: string) =>
    ((await redisCommand(server.url, 'COMMAND', 'INFO', command)) as unknown[]).some(Boolean);
  const moveAtomically = async (slot: number, from: PrivateRedis, to: PrivateRedis) => {
    if (await knows(from, VALKEY_MOVE))
      await cluster(from, 'MIGRATESLOTS', 'SLOTSRANGE', slot, slot, 'NODE', await idOf(to));
    else await cluster(to, 'MIGRATION', 'IMPORT', slot, slot);
    await until('an atomic move', async () => {
      const owners = await Promise.all(nodes.map((node) => ownerBy(node, slot)));
      return owners.every((owner) => owner === to);
    });
  };
  return {
    url: `redis+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
    nodes,
    ownerOf,
    async addReplica(of) {
      const replica = await start();
      await meet(replica, of);
      await agree(running);
      await until('a replica', async () => (await cluster(replica, 'REPLICATE', await idOf(of))) === 'OK');
      const inSync = async () => {
        const info = String(await redisCommand(replica.url, 'INFO', 'replication'));
        return info.includes('master_link_status:up');
      };
      await until('a replica in sync', inSync);
      // The others vote for it only if they know that it is a replica.
      const id = await idOf(of);
      await until('a replica that all know', async () => {
        const views = await Promise.all(nodes.map((node) => cluster(node, 'REPLICAS', id)));
        return views.every((view) => (view as string[]).length === 1);
      });
      return replica;
    },
    async move(key, to, how = 'key by key') {
      const from = await ownerOf(key);
      const slot = Number(await cluster(to, 'KEYSLOT', key));
      if (how === 'key by key') await moveKeys(slot, from, to);
      else await moveAtomically(slot, from, to);
    },
    canMoveAtomically: async () =>
      (await knows(nodes[0], VALKEY_MOVE)) || (await knows(nodes[0], REDIS_MOVE)),
    stop: async () => {
      for (const server of running.reverse()) await server.stop();
    },
  };
}
