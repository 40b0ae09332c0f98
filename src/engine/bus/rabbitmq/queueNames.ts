import type { Channel } from 'amqplib';
import { messageOf } from '../../model/errors.ts';
import { DURABLE_QUEUES } from '../bus.ts';

/**
 * Exchanges and queues at the broker. All names begin with `feed.`. Clusters that share a broker use
 * different virtual hosts.
 *
 *     exchange feed.events       x-consistent-hash  -> feed.events.0 ... n-1       by author
 *     exchange feed.events.bulk  x-consistent-hash  -> feed.events.bulk.0 ... n-1
 *     exchange feed.fanout       direct             -> feed.rows.live.0 ... n-1    by partition, two lanes
 *                                                   -> feed.rows.bulk.0 ... n-1
 *     exchange feed.live         direct             -> feed.live.<gateway>         declared by the gateway
 *                                                   -> feed.probe.<id>             of a connection, probe.ts
 *     exchange feed.dead         direct             -> feed.dead.<queue>           dead letters
 *     (default exchange)                            -> feed.cleanup
 *     (none)                                           feed.cluster                names the owner: owner.ts
 */
export const EXCHANGES = {
  events: 'feed.events',
  'events.bulk': 'feed.events.bulk',
  fanout: 'feed.fanout',
  live: 'feed.live',
  dead: 'feed.dead',
} as const;

/** All but `cleanup` have partitions. */
export type DurableQueue = (typeof DURABLE_QUEUES)[number];

export const isDurable = (queue: string): queue is DurableQueue =>
  (DURABLE_QUEUES as readonly string[]).includes(queue);
const isHashed = (queue: string): queue is 'events' | 'events.bulk' =>
  queue === 'events' || queue === 'events.bulk';
/** Dead letters of all gateways share a queue, as gateways are temporary. */
export const deadQueueOf = (queue: string): string => `feed.dead.${isDurable(queue) ? queue : 'live'}`;
export const DEAD_LETTERS = [...DURABLE_QUEUES, 'live'].map((queue) => `feed.dead.${queue}`);

/** Returns the names at the broker of partitions `from` to `to - 1`. */
export function partitionsOf(queue: DurableQueue, to: number, from = 0): string[] {
  if (queue === 'cleanup') return from === 0 ? ['feed.cleanup'] : [];
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => `feed.${queue}.${from + i}`);
}

/** The queue that names the cluster of a virtual host. No message is ever in it. */
export const OWNER_QUEUE = 'feed.cluster';

/** Limits of one queue at the broker, which refuses messages beyond them. */
export interface QueueLimits {
  readonly maxMessages: number;
  readonly maxBytes: number;
}

/**
 * Deliveries after which the broker dead-letters a message. A consumer that dies counts one delivery
 * for everything it had prefetched: with a low limit, such as the 20 of RabbitMQ 4, a few crashes would
 * dead-letter good messages. Only a message that kills its consumers reaches 100.
 */
export const DELIVERY_LIMIT = 100;
/**
 * Deliveries after which the broker drops a dead letter. RabbitMQ 4 carries the count of the first queue
 * along, so a dead letter arrives with 101, and limits a queue without a limit to 20: it would drop the
 * letter at its first return. -1, no limit, would drop it at the first return on 3.10.
 */
export const DEAD_DELIVERY_LIMIT = 1_000_000;
/** The broker deletes a gateway's queue after this time without a consumer. */
export const LIVE_EXPIRES_MS = 60_000;

export const durableQueue = (queue: string, limits: QueueLimits) => ({
  durable: true,
  arguments: {
    'x-queue-type': 'quorum',
    // Barriers need it: no other consumer has messages of the queue in flight.
    'x-single-active-consumer': true,
    'x-delivery-limit': DELIVERY_LIMIT,
    // The default would drop the oldest messages silently, and excludes at-least-once dead-lettering.
    'x-overflow': 'reject-publish',
    'x-max-length': limits.maxMessages,
    'x-max-length-bytes': limits.maxBytes,
    'x-dead-letter-exchange': EXCHANGES.dead,
    'x-dead-letter-routing-key': deadQueueOf(queue),
    'x-dead-letter-strategy': 'at-least-once',
  },
});

export const deadQueue = (limits: QueueLimits) => ({
  durable: true,
  arguments: {
    'x-queue-type': 'quorum',
    'x-delivery-limit': DEAD_DELIVERY_LIMIT,
    'x-overflow': 'reject-publish',
    'x-max-length': limits.maxMessages,
    'x-max-length-bytes': limits.maxBytes,
  },
});

/**
 * The broker compares these arguments at each declaration, and says the present ones if they differ. A quorum
 * queue answers while a node of the brokers is down.
 */
export const ownerQueue = (cluster: string) => ({
  durable: true,
  arguments: {
    'x-queue-type': 'quorum',
    'x-dead-letter-exchange': EXCHANGES.dead,
    'x-dead-letter-routing-key': cluster,
  },
});

export const liveQueue = (limits: QueueLimits) => ({
  durable: true,
  arguments: {
    // The default type of the virtual host may be quorum, whose delivery limit would drop messages.
    'x-queue-type': 'classic',
    'x-expires': LIVE_EXPIRES_MS,
    'x-overflow': 'reject-publish',
    'x-max-length': limits.maxMessages,
    'x-max-length-bytes': limits.maxBytes,
  },
});

/** Runs work on a channel: a new one after the broker has closed the last. Throws the broker's error. */
export type OnChannel = <T>(work: (channel: Channel) => Promise<T>) => Promise<T>;

/**
 * Declares exchanges and queues. Compares the properties of those that exist. Returns the queues of
 * dead letters that have no delivery limit: a version without it declared them, and the properties of a
 * queue cannot be changed.
 */
export async function declareTopology(
  onChannel: OnChannel,
  partitions: number,
  limits: QueueLimits,
): Promise<string[]> {
  await onChannel(async (channel) => {
    for (const exchange of [EXCHANGES.events, EXCHANGES['events.bulk']])
      await channel.assertExchange(exchange, 'x-consistent-hash', { durable: true });
    for (const exchange of [EXCHANGES.fanout, EXCHANGES.live, EXCHANGES.dead])
      await channel.assertExchange(exchange, 'direct', { durable: true });
  });
  const unlimited: string[] = [];
  for (const name of DEAD_LETTERS) if (!(await declareDead(onChannel, name, limits))) unlimited.push(name);
  await onChannel(async (channel) => {
    for (const name of DEAD_LETTERS) await channel.bindQueue(name, EXCHANGES.dead, name);
    for (const queue of DURABLE_QUEUES) {
      for (const name of partitionsOf(queue, partitions)) {
        await channel.assertQueue(name, durableQueue(queue, limits));
        // The key of a consistent-hash binding is a weight: one point on the ring for each queue.
        if (isHashed(queue)) await channel.bindQueue(name, EXCHANGES[queue], '1');
        else if (queue !== 'cleanup') await channel.bindQueue(name, EXCHANGES.fanout, name);
      }
    }
  });
  return unlimited;
}

/** Returns false for an existing queue without a delivery limit, which is otherwise as declared here. */
async function declareDead(onChannel: OnChannel, name: string, limits: QueueLimits): Promise<boolean> {
  const { durable, arguments: wanted } = deadQueue(limits);
  try {
    await onChannel((channel) => channel.assertQueue(name, { durable, arguments: wanted }));
    return true;
  } catch (error) {
    if (!/inequivalent arg 'x-delivery-limit'.* but current is none/.test(messageOf(error))) throw error;
    const { 'x-delivery-limit': _, ...unlimited } = wanted;
    await onChannel((channel) => channel.assertQueue(name, { durable, arguments: unlimited }));
    return false;
  }
}

/** Unbinds partitions `from` to `to - 1`: they get no more messages and are consumed until empty. */
export async function unbindPartitions(channel: Channel, from: number, to: number): Promise<void> {
  for (const queue of DURABLE_QUEUES) {
    for (const name of partitionsOf(queue, to, from)) {
      if (isHashed(queue)) await channel.unbindQueue(name, EXCHANGES[queue], '1');
      else await channel.unbindQueue(name, EXCHANGES.fanout, name);
    }
  }
}

/**
 * Declares a gateway's queue. It is not exclusive: a gateway that reconnects finds the messages of the
 * meantime.
 */
export async function declareLiveQueue(
  channel: Channel,
  queue: string,
  limits: QueueLimits,
): Promise<string> {
  const name = `feed.${queue}`;
  await channel.assertQueue(name, liveQueue(limits));
  await channel.bindQueue(name, EXCHANGES.live, name);
  return name;
}

/** Returns the exchange and the routing key of a message. */
export function routeOf(queue: string, key: number, partitions: number): { exchange: string; key: string } {
  if (isHashed(queue)) return { exchange: EXCHANGES[queue], key: String(key) };
  if (queue === 'cleanup') return { exchange: '', key: 'feed.cleanup' };
  if (isDurable(queue)) return { exchange: EXCHANGES.fanout, key: `feed.${queue}.${key % partitions}` };
  return { exchange: EXCHANGES.live, key: `feed.${queue}` };
}
