import type { Channel } from 'amqplib';

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
 *     exchange feed.dead         direct             -> feed.dead.<queue>           dead letters
 *     (default exchange)                            -> feed.cleanup
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
const DELIVERY_LIMIT = 100;
/** The broker deletes a gateway's queue after this time without a consumer. */
const LIVE_EXPIRES_MS = 60_000;

const durableQueue = (queue: string, limits: QueueLimits) => ({
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

const deadQueue = (limits: QueueLimits) => ({
  durable: true,
  arguments: {
    'x-queue-type': 'quorum',
    'x-overflow': 'reject-publish',
    'x-max-length': limits.maxMessages,
    'x-max-length-bytes': limits.maxBytes,
  },
});

/** Declares exchanges and queues. Compares the properties of those that exist. */
export async function declareTopology(
  channel: Channel,
  partitions: number,
  limits: QueueLimits,
): Promise<void> {
  for (const exchange of [EXCHANGES.events, EXCHANGES['events.bulk']])
    await channel.assertExchange(exchange, 'x-consistent-hash', { durable: true });
  for (const exchange of [EXCHANGES.fanout, EXCHANGES.live, EXCHANGES.dead])
    await channel.assertExchange(exchange, 'direct', { durable: true });
  for (const name of DEAD_LETTERS) {
    await channel.assertQueue(name, deadQueue(limits));
    await channel.bindQueue(name, EXCHANGES.dead, name);
  }
  for (const queue of DURABLE_QUEUES) {
    for (const name of partitionsOf(queue, partitions)) {
      await channel.assertQueue(name, durableQueue(queue, limits));
      // The key of a consistent-hash binding is a weight: one point on the ring for each queue.
      if (isHashed(queue)) await channel.bindQueue(name, EXCHANGES[queue], '1');
      else if (queue !== 'cleanup') await channel.bindQueue(name, EXCHANGES.fanout, name);
    }
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
  await channel.assertQueue(name, {
    durable: true,
    arguments: {
      'x-expires': LIVE_EXPIRES_MS,
      'x-overflow': 'reject-publish',
      'x-max-length': limits.maxMessages,
      'x-max-length-bytes': limits.maxBytes,
    },
  });
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
