import type { Channel } from 'amqplib';

import { DURABLE_QUEUES } from '../bus.ts';

/**
 * What is declared at the broker. All names begin with `feed.`; clusters that share a broker have a virtual host
 * each.
 *
 *     exchange feed.events       x-consistent-hash  -> feed.events.0 ... n-1       by author
 *     exchange feed.events.bulk  x-consistent-hash  -> feed.events.bulk.0 ... n-1
 *     exchange feed.fanout       direct             -> feed.rows.live.0 ... n-1    by partition, two lanes
 *                                                   -> feed.rows.bulk.0 ... n-1
 *     exchange feed.live         direct             -> feed.live.<gateway>         made by the gateway
 *     exchange feed.dead         direct             -> feed.dead.<queue>           what was put aside
 *     (default exchange)                            -> feed.cleanup
 */
export const EXCHANGES = {
  events: 'feed.events',
  'events.bulk': 'feed.events.bulk',
  fanout: 'feed.fanout',
  live: 'feed.live',
  dead: 'feed.dead',
} as const;

/** All but the last come in partitions. */
export type DurableQueue = (typeof DURABLE_QUEUES)[number];

export const isDurable = (queue: string): queue is DurableQueue =>
  (DURABLE_QUEUES as readonly string[]).includes(queue);
const isHashed = (queue: string): queue is 'events' | 'events.bulk' =>
  queue === 'events' || queue === 'events.bulk';
/** Dead letters of gateways' queues are kept together: the gateways themselves come and go. */
export const deadQueueOf = (queue: string): string => `feed.dead.${isDurable(queue) ? queue : 'live'}`;
export const DEAD_LETTERS = [...DURABLE_QUEUES, 'live'].map((queue) => `feed.dead.${queue}`);

/** Names at the broker of partitions from..to-1. */
export function partitionsOf(queue: DurableQueue, to: number, from = 0): string[] {
  if (queue === 'cleanup') return from === 0 ? ['feed.cleanup'] : [];
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => `feed.${queue}.${from + i}`);
}

/** The bounds of one queue at the broker: what goes past them is refused. */
export interface Bounds {
  readonly maxMessages: number;
  readonly maxBytes: number;
}

/**
 * A consumer that dies counts a delivery against everything it had prefetched: a low limit would put good messages
 * aside after a few crashes. Only a message that takes its consumers down gets this far. 4.x would have 20.
 */
const DELIVERY_LIMIT = 100;
/** A gateway that has been gone for so long starts afresh. */
const LIVE_EXPIRES_MS = 60_000;

const lasting = (queue: string, bounds: Bounds) => ({
  durable: true,
  arguments: {
    'x-queue-type': 'quorum',
    // A mark is exact because nobody else holds messages of the queue: the broker sees to it.
    'x-single-active-consumer': true,
    'x-delivery-limit': DELIVERY_LIMIT,
    // Without it the oldest would be dropped in silence, and dead-lettering could not be made safe.
    'x-overflow': 'reject-publish',
    'x-max-length': bounds.maxMessages,
    'x-max-length-bytes': bounds.maxBytes,
    'x-dead-letter-exchange': EXCHANGES.dead,
    'x-dead-letter-routing-key': deadQueueOf(queue),
    'x-dead-letter-strategy': 'at-least-once',
  },
});

const dead = (bounds: Bounds) => ({
  durable: true,
  arguments: {
    'x-queue-type': 'quorum',
    'x-overflow': 'reject-publish',
    'x-max-length': bounds.maxMessages,
    'x-max-length-bytes': bounds.maxBytes,
  },
});

/** Declares everything for that many partitions; what is there already is only compared. */
export async function declareTopology(channel: Channel, partitions: number, bounds: Bounds): Promise<void> {
  for (const exchange of [EXCHANGES.events, EXCHANGES['events.bulk']])
    await channel.assertExchange(exchange, 'x-consistent-hash', { durable: true });
  for (const exchange of [EXCHANGES.fanout, EXCHANGES.live, EXCHANGES.dead])
    await channel.assertExchange(exchange, 'direct', { durable: true });
  for (const name of DEAD_LETTERS) {
    await channel.assertQueue(name, dead(bounds));
    await channel.bindQueue(name, EXCHANGES.dead, name);
  }
  for (const queue of DURABLE_QUEUES) {
    for (const name of partitionsOf(queue, partitions)) {
      await channel.assertQueue(name, lasting(queue, bounds));
      // The key of a consistent-hash binding is a weight: one point on the ring for each queue.
      if (isHashed(queue)) await channel.bindQueue(name, EXCHANGES[queue], '1');
      else if (queue !== 'cleanup') await channel.bindQueue(name, EXCHANGES.fanout, name);
    }
  }
}

/** Nothing comes into partitions from..to-1 any more; what is in them is still consumed. */
export async function unbindPartitions(channel: Channel, from: number, to: number): Promise<void> {
  for (const queue of DURABLE_QUEUES) {
    for (const name of partitionsOf(queue, to, from)) {
      if (isHashed(queue)) await channel.unbindQueue(name, EXCHANGES[queue], '1');
      else await channel.unbindQueue(name, EXCHANGES.fanout, name);
    }
  }
}

/** Not exclusive: a gateway whose connection breaks finds what came meanwhile. It is gone when nobody returns. */
export async function declareLiveQueue(channel: Channel, queue: string, bounds: Bounds): Promise<string> {
  const name = `feed.${queue}`;
  await channel.assertQueue(name, {
    durable: true,
    arguments: {
      'x-expires': LIVE_EXPIRES_MS,
      'x-overflow': 'reject-publish',
      'x-max-length': bounds.maxMessages,
      'x-max-length-bytes': bounds.maxBytes,
    },
  });
  await channel.bindQueue(name, EXCHANGES.live, name);
  return name;
}

/** Where a message is published: the exchange and its routing key. */
export function routeOf(queue: string, key: number, partitions: number): { exchange: string; key: string } {
  if (isHashed(queue)) return { exchange: EXCHANGES[queue], key: String(key) };
  if (queue === 'cleanup') return { exchange: '', key: 'feed.cleanup' };
  if (isDurable(queue)) return { exchange: EXCHANGES.fanout, key: `feed.${queue}.${key % partitions}` };
  return { exchange: EXCHANGES.live, key: `feed.${queue}` };
}
