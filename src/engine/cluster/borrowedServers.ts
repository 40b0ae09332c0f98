import type { Channel, ChannelModel } from 'amqplib';
import type { Config } from '../config/config.ts';
import type { Database } from '../database/database.ts';
import { withoutPassword } from '../database/url.ts';
import { Identity } from '../identity/identity.ts';
import { FeedctlError } from '../model/errors.ts';
import { silentLog } from '../telemetry/log.ts';

/** Partitions of a cluster whose number is not known, because it did not start. */
const PARTITIONS = 8;

/** A broker and a cache that a demo or a benchmark fills and empties again. */
export interface BorrowedServers {
  /** Reads which queues and keys the cluster of this database has. */
  identify(db: Database): Promise<void>;
  /** Removes those queues and keys. */
  clear(): Promise<void>;
}

/**
 * Borrows the broker and the cache of the configuration for a cluster that exists for one run only. Such a
 * cluster would take the messages of another one at the same virtual host. `db`: its database, if it has one
 * already. Throws CLUSTER_NOT_EMPTY for a server that belongs to a cluster, or the code of a server that
 * does not answer.
 */
export async function borrowServers(config: Config, db?: Database): Promise<BorrowedServers> {
  const broker = config.brokerUrl ? await borrowBroker(config.brokerUrl, db) : undefined;
  const cache = config.cacheUrl ? await borrowCache(config.cacheUrl, db) : undefined;
  return {
    async identify(database) {
      await broker?.identify(database);
      await cache?.identify(database);
    },
    async clear() {
      await broker?.clear();
      await cache?.clear();
    },
  };
}

async function borrowBroker(url: string, db: Database | undefined): Promise<BorrowedServers> {
  const { DURABLE_QUEUES } = await import('../bus/bus.ts');
  const { DEAD_LETTERS, EXCHANGES, OWNER_QUEUE, partitionsOf } = await import(
    '../bus/rabbitmq/queueNames.ts'
  );
  const { readTopology } = await import('../bus/rabbitmq/partitions.ts');
  const queues = (partitions: number) => [
    ...DURABLE_QUEUES.flatMap((queue) => partitionsOf(queue, partitions)),
    ...DEAD_LETTERS,
    OWNER_QUEUE,
  ];
  // A database whose cluster has used a broker may have declared the queues: then they must be idle.
  const topology = db && (await readTopology(db));
  const declared = await withBroker(url, async (connection) => {
    let found = false;
    for (const name of queues(topology?.declared ?? 1)) {
      const state = await look(connection, (channel) => channel.checkQueue(name));
      if (!state) continue;
      found = true;
      if (!topology || state.messageCount + state.consumerCount > 0) throw brokerTaken(url, `queue ${name}`);
    }
    for (const name of topology ? [] : Object.values(EXCHANGES))
      if (await look(connection, (channel) => channel.checkExchange(name)))
        throw brokerTaken(url, `exchange ${name}`);
    return found;
  });
  let partitions = PARTITIONS;
  return {
    async identify(database) {
      partitions = (await readTopology(database))?.declared ?? partitions;
    },
    async clear() {
      if (declared) return;
      await withBroker(url, async (connection) => {
        const channel = await connection.createChannel();
        for (const name of queues(partitions)) await channel.deleteQueue(name);
        for (const name of Object.values(EXCHANGES)) await channel.deleteExchange(name);
      });
    },
  };
}

const brokerTaken = (url: string, what: string) =>
  new FeedctlError('CLUSTER_NOT_EMPTY', `the broker ${withoutPassword(url)} has the ${what} of a cluster`, {
    suggestions: [
      'Create a virtual host for this: `rabbitmqctl add_vhost try`, and end --broker-url with `/try`.',
      'If a run that was killed has left it, delete that virtual host: `rabbitmqctl delete_vhost`.',
    ],
  });

/** Connects to the first broker that answers. */
async function withBroker<T>(urls: string, work: (connection: ChannelModel) => Promise<T>): Promise<T> {
  const { parseEndpoints } = await import('../bus/rabbitmq/endpoints.ts');
  const { connectTo } = await import('../bus/rabbitmq/connect.ts');
  const { brokerError } = await import('../bus/rabbitmq/errors.ts');
  let failure: unknown;
  for (const endpoint of parseEndpoints(urls)) {
    let connection: ChannelModel;
    try {
      connection = await connectTo(endpoint);
    } catch (error) {
      failure = brokerError(error, endpoint);
      continue;
    }
    connection.on('error', () => {});
    try {
      return await work(connection);
    } catch (error) {
      throw brokerError(error, endpoint);
    } finally {
      await connection.close().catch(() => {});
    }
  }
  throw failure;
}

/** Returns undefined for an object that does not exist. The broker then closes the channel. */
async function look<T>(
  connection: ChannelModel,
  check: (channel: Channel) => Promise<T>,
): Promise<T | undefined> {
  const channel = await connection.createChannel();
  channel.on('error', () => {});
  try {
    const state = await check(channel);
    await channel.close();
    return state;
  } catch (error) {
    if ((error as { code?: number }).code === 404) return undefined;
    throw error;
  }
}

/** Returns the prefixes of a cluster's keys: of its lineage, of later lineages, and of its request limits. */
async function prefixesOf(db: Database): Promise<readonly string[]> {
  const { cluster, keyPrefix } = await Identity.open(db);
  return [`feedctl:${keyPrefix}:`, `feedctl:${cluster}.`, `feedctl:${cluster}:`, `feedctl:{${cluster}}`];
}

async function borrowCache(url: string, db: Database | undefined): Promise<BorrowedServers> {
  let own = db && (await prefixesOf(db));
  await withCache(url, async (keys) => {
    for await (const found of keys('feedctl:*')) {
      const other = found.find((key) => !own?.some((prefix) => key.toString('latin1').startsWith(prefix)));
      if (!other) continue;
      const name = /^feedctl:[^:]*/.exec(other.toString('latin1'))?.[0];
      throw new FeedctlError(
        'CLUSTER_NOT_EMPTY',
        `the cache ${withoutPassword(url)} has keys of a cluster (${name})`,
        {
          suggestions: [
            'Use a separate Redis, or another database of it: end --cache-url with a number, such as `/9`.',
            'If a run that was killed has left them: wait an hour until they expire, or remove them.',
          ],
        },
      );
    }
  });
  return {
    async identify(database) {
      own = await prefixesOf(database);
    },
    async clear() {
      const prefixes = own;
      if (!prefixes) return;
      await withCache(url, async (keys, remove) => {
        for (const prefix of prefixes) for await (const found of keys(`${prefix}*`)) await remove(found);
      });
    },
  };
}

type KeysOf = (match: string) => AsyncGenerator<Buffer[]>;
type Remove = (keys: readonly Buffer[]) => Promise<void>;

/** Does the work on each server that may hold keys: on every node of a Redis Cluster. */
async function withCache(url: string, work: (keys: KeysOf, remove: Remove) => Promise<void>): Promise<void> {
  const { RedisConnection } = await import('../cache/redis/connection.ts');
  const { allEndpoints } = await import('../cache/redis/endpoint.ts');
  for (const endpoint of await allEndpoints(url)) {
    const connection = await RedisConnection.open(endpoint, silentLog);
    try {
      const { server } = connection;
      if (!server) throw connection.failure();
      await work(
        (match) => connection.keys(server.runId, match),
        (keys) => connection.remove(server.runId, keys),
      );
    } finally {
      await connection.close();
    }
  }
}
