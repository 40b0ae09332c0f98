import { createConnection, Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AbstractConnector, Redis, type RedisOptions } from 'ioredis';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import type { Address, CacheUrl } from './cacheUrl.ts';
import { explain } from './faults.ts';

/** Maximum wait for a sentinel or a node that is asked. */
const ASK_TIMEOUT_MS = 1_000;
const DISCONNECT_TIMEOUT_MS = 2_000;

/** Finds the server that takes the writes now. Throws FeedctlError. */
export type Locate = () => Promise<Address>;

/**
 * Returns a connector of the driver that asks for the server before every connection. Every failure becomes a
 * connection that is closed: then the driver tries again, whereas it never does after a rejection.
 */
export function connectorTo(
  locate: Locate,
  tls: RedisOptions['tls'],
): NonNullable<RedisOptions['Connector']> {
  return class extends AbstractConnector {
    constructor() {
      super(DISCONNECT_TIMEOUT_MS);
    }

    override async connect(): Promise<Socket> {
      this.connecting = true;
      delete this.firstError;
      const server = await locate().catch((error) => {
        this.firstError = error;
      });
      if (!server || !this.connecting) return new Socket().destroy();
      const stream = tls ? connectTls({ ...server, ...tls }) : createConnection({ ...server });
      this.stream = stream;
      stream.once('error', (error) => {
        this.firstError = error;
      });
      return stream;
    }
  };
}

/** Asks the sentinels in turn, beginning with the one that answered last. */
export function masterOf({ shown, hosts, group, sentinel }: CacheUrl): Locate {
  let order = [...hosts];
  return async () => {
    const faults: FeedctlError[] = [];
    let strangers = 0;
    for (const one of order) {
      try {
        const question = ['GET-MASTER-ADDR-BY-NAME', group] as const;
        const answer = await ask(one, sentinel, (redis) => redis.call('SENTINEL', ...question));
        if (Array.isArray(answer)) {
          order = [one, ...hosts.filter((other) => other !== one)];
          const [host, port] = answer.map(String) as [string, string];
          return { host, port: Number(port) };
        }
        strangers += 1;
      } catch (error) {
        faults.push(explainSentinel(error, one, shown));
      }
    }
    if (strangers > 0 && faults.length === 0)
      throw new FeedctlError('CACHE_UNSUITABLE', `no sentinel of ${shown} knows the group ${group}`, {
        suggestions: [
          'Correct the name in the URL: `redis-cli -h SENTINEL -p 26379 sentinel masters` lists all.',
        ],
      });
    throw combined(faults, `no sentinel of ${shown} names the master of ${group}`);
  };
}

function explainSentinel(error: unknown, { host, port }: Address, shown: string): FeedctlError {
  if (/unknown command.*sentinel/i.test(messageOf(error)))
    return new FeedctlError('CACHE_UNSUITABLE', `${host}:${port} in ${shown} is no sentinel`, {
      cause: error,
      suggestions: ['Name the sentinels, whose port is mostly 26379; for one server use redis://.'],
    });
  const fault = explain(error, `the sentinel ${host}:${port} of ${shown}`);
  if (fault.code !== 'CACHE_REFUSED') return fault;
  return new FeedctlError('CACHE_REFUSED', fault.message, {
    cause: error,
    suggestions: [
      'Add sentinel_password, and sentinel_username if they have users, to the query of the URL.',
    ],
  });
}

/** Finds the node of a Redis Cluster that owns the slot of a key. */
export function ownerOf(url: CacheUrl, key: string): Locate {
  const slots = slotsOf(url);
  return async () => {
    const { slot, ranges } = await slots(key);
    const range = ranges.find(({ from, to }) => from <= slot && slot <= to);
    if (range) return range.owner;
    throw new FeedctlError('CACHE_UNREACHABLE', `no node of ${url.shown} owns the slot ${slot}`, {
      suggestions: [CHECK_CLUSTER],
    });
  };
}

/** Lists the nodes of a Redis Cluster that own slots. */
export async function ownersOf(url: CacheUrl): Promise<Address[]> {
  const { ranges } = await slotsOf(url)('');
  return [...new Map(ranges.map(({ owner }) => [nameOf(owner), owner])).values()];
}

const nameOf = ({ host, port }: Address): string => `${host}:${port}`;

interface Range {
  readonly from: number;
  readonly to: number;
  readonly owner: Address;
}

/**
 * Returns a function that reads the slot of a key, and the owners of all slots, from a node that answers.
 * Each call begins with another node: one that was just replaced may not know of that yet.
 */
function slotsOf({
  shown,
  hosts,
  server,
}: CacheUrl): (key: string) => Promise<{ slot: number; ranges: Range[] }> {
  let order: readonly Address[] = hosts;
  return async (key) => {
    const faults: FeedctlError[] = [];
    for (const one of order) {
      try {
        const found = await ask(one, server, async (redis) => ({
          slot: Number(await redis.call('CLUSTER', 'KEYSLOT', key)),
          ranges: ((await redis.call('CLUSTER', 'SLOTS')) as SlotsReply).map((range) => rangeOf(range, one)),
        }));
        const others = [...hosts, ...found.ranges.map(({ owner }) => owner)];
        const named = new Map(others.map((node) => [nameOf(node), node]));
        named.delete(nameOf(one));
        order = [...named.values(), one];
        return found;
      } catch (error) {
        faults.push(explainNode(error, one, shown));
      }
    }
    throw combined(faults, `no node of ${shown} answers`);
  };
}

type SlotsReply = [from: number, to: number, owner: [host: string | null, port: number]][];

/** A node that does not know its own address reports none: it is the one that was asked. */
const rangeOf = ([from, to, [host, port]]: SlotsReply[number], asked: Address): Range => ({
  from,
  to,
  owner: { host: host || asked.host, port },
});

const CHECK_CLUSTER = 'Look for slots without a master: `redis-cli --cluster check HOST:PORT`.';

function explainNode(error: unknown, { host, port }: Address, shown: string): FeedctlError {
  if (/cluster support disabled/i.test(messageOf(error)))
    return new FeedctlError('CACHE_UNSUITABLE', `${host}:${port} in ${shown} is no node of a Redis Cluster`, {
      cause: error,
      suggestions: ['Use redis:// for one server, or redis+sentinel:// for servers behind sentinels.'],
    });
  return explain(error, `the node ${host}:${port} of ${shown}`);
}

/** Returns one error for several. Only what all of them say cannot pass by itself. */
function combined(faults: readonly FeedctlError[], what: string): FeedctlError {
  const [first] = faults;
  if (first && faults.every(({ code }) => code !== 'CACHE_UNREACHABLE')) return first;
  const reasons = faults.map(({ message }) => message).join('; ');
  return new FeedctlError('CACHE_UNREACHABLE', `${what}: ${reasons}`, { cause: first });
}

/** Asks one server on a connection that is used for nothing else. */
async function ask<T>(
  at: Address,
  options: RedisOptions,
  question: (redis: Redis) => Promise<T>,
): Promise<T> {
  const redis = new Redis({
    ...options,
    host: at.host,
    port: at.port,
    lazyConnect: true,
    connectTimeout: ASK_TIMEOUT_MS,
    commandTimeout: ASK_TIMEOUT_MS,
    retryStrategy: () => null,
    enableReadyCheck: false,
    maxRetriesPerRequest: 0,
    disableClientInfo: true,
    connectionName: 'feedctl locate',
  });
  // The driver rejects with "Connection is closed" and reports the reason here.
  let reason: unknown;
  redis.on('error', (error) => {
    reason ??= error;
  });
  try {
    await redis.connect();
    return await question(redis);
  } catch (error) {
    throw reason ?? error;
  } finally {
    redis.disconnect();
  }
}
