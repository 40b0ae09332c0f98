import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { FeedctlError } from '../../model/errors.ts';
import { poll } from '../../util/poll.ts';
import type { WaitingMessage } from '../bus.ts';
import type { AdminChannel } from './adminChannel.ts';
import { BARRIER_TYPE } from './reader.ts';

const POLL_MS = 10;
/** A queue that sends no message for this long has another consumer. */
const DELIVERY_TIMEOUT_MS = 3_000;
/** Maximum time that the broker takes to remove a consumer whose channel is closed. */
const LEAVE_TIMEOUT_MS = 2_000;

/**
 * Returns some of the messages that wait in queues of the broker, the same number from each. A queue
 * with a single active consumer delivers to that consumer only: `basic.get`, and with it the
 * management API, is refused (405). So this becomes the consumer for a moment, if there is no other,
 * then closes its channel, and the messages return to their places. Measured with 3.10: each has one
 * delivery more, of 100. Cancelling the consumer first would requeue them behind all others.
 * Throws QUEUE_CONSUMED.
 */
export async function peekQueues(
  connection: ChannelModel,
  adminChannel: AdminChannel,
  names: readonly string[],
  limit: number,
): Promise<WaitingMessage[]> {
  const states = await adminChannel.states(names);
  for (const [name, { consumers }] of states) if (consumers > 0) throw consumed(name);
  const waiting = [...states].filter(([, { ready }]) => ready > 0);
  const share = Math.ceil(limit / Math.max(1, waiting.length));
  const found: WaitingMessage[] = [];
  for (const [name, { ready }] of waiting) {
    for (const message of await consumeFirst(connection, name, Math.min(ready, share))) {
      const { type, timestamp, headers } = message.properties;
      // Markers of barriers are no messages.
      if (type === BARRIER_TYPE) continue;
      found.push({
        body: message.content,
        publishedAt: timestamp === undefined ? null : new Date(Number(timestamp) * 1_000),
        deliveries: Number(headers?.['x-delivery-count'] ?? 0),
      });
    }
  }
  await consumersLeft(
    adminChannel,
    waiting.map(([name]) => name),
  );
  return found.slice(0, limit);
}

/**
 * Waits until the broker has removed this consumer: the next peek would find it. Waits no longer than
 * LEAVE_TIMEOUT_MS, as a worker may have become a consumer.
 */
async function consumersLeft(adminChannel: AdminChannel, names: readonly string[]): Promise<void> {
  const none = async () => {
    const states = await adminChannel.states(names);
    return [...states.values()].every(({ consumers }) => consumers === 0);
  };
  await poll(none, { everyMs: POLL_MS, timeoutMs: LEAVE_TIMEOUT_MS });
}

const consumed = (name: string) =>
  new FeedctlError(
    'QUEUE_CONSUMED',
    `${name} has a consumer: RabbitMQ shows its messages to that consumer only`,
  );

/** Consumes the first messages of a queue, without acking them. Throws QUEUE_CONSUMED. */
async function consumeFirst(
  connection: ChannelModel,
  name: string,
  count: number,
): Promise<ConsumeMessage[]> {
  const channel = await connection.createChannel();
  let failure: unknown;
  channel.on('error', (error) => {
    failure = error;
  });
  const messages: ConsumeMessage[] = [];
  let deliveredAt = Date.now();
  try {
    await channel.prefetch(count);
    await channel.consume(name, (message) => {
      deliveredAt = Date.now();
      if (message) messages.push(message);
    });
    const ended = () =>
      messages.length >= count || Boolean(failure) || Date.now() - deliveredAt >= DELIVERY_TIMEOUT_MS;
    await poll(ended, { everyMs: POLL_MS });
  } finally {
    await channel.close().catch(() => {});
  }
  if (failure) throw failure;
  if (messages.length === 0) throw consumed(name);
  return messages;
}
