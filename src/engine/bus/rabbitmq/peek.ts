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

/** First messages of one queue. */
interface Head {
  readonly name: string;
  /** Messages and markers of barriers that wait there. */
  readonly ready: number;
  /** Messages and markers that were taken. */
  taken: number;
  messages: WaitingMessage[];
}

/**
 * Returns the first messages that wait in queues of the broker: all of them, or `limit`, about the same
 * number from each. A queue with a single active consumer delivers to that consumer only: `basic.get`,
 * and with it the management API, is refused (405). So this becomes the consumer for a moment, if there
 * is no other, then closes its channel, and the messages return to their places. Measured with 3.10:
 * each has one delivery more, of 100. Cancelling the consumer first would requeue them behind all
 * others. Throws QUEUE_CONSUMED.
 */
export async function peekQueues(
  connection: ChannelModel,
  adminChannel: AdminChannel,
  names: readonly string[],
  limit: number,
): Promise<WaitingMessage[]> {
  const states = await adminChannel.states(names);
  for (const [name, { consumers }] of states) if (consumers > 0) throw consumed(name);
  const heads = [...states]
    .filter(([, { ready }]) => ready > 0)
    .map(([name, { ready }]): Head => ({ name, ready, taken: 0, messages: [] }));
  for (;;) {
    const missing = limit - heads.reduce((sum, { messages }) => sum + messages.length, 0);
    const rest = heads.filter(({ ready, taken }) => taken < ready);
    if (missing <= 0 || rest.length === 0) break;
    const more = shares(
      rest.map(({ ready, taken }) => ready - taken),
      missing,
    );
    for (const [i, head] of rest.entries()) {
      if (more[i] === 0) continue;
      // Twice as many each time: many markers before a message would cost it many deliveries.
      head.taken = Math.min(head.ready, head.taken + Math.max(more[i]!, head.taken));
      const taken = await consumeFirst(connection, head.name, head.taken);
      // Markers of barriers are no messages.
      head.messages = taken.filter(({ properties }) => properties.type !== BARRIER_TYPE).map(waitingMessage);
    }
    await consumersLeft(
      adminChannel,
      heads.map(({ name }) => name),
    );
  }
  const shown = shares(
    heads.map(({ messages }) => messages.length),
    limit,
  );
  return heads.flatMap(({ messages }, i) => messages.slice(0, shown[i]));
}

/** Divides a number over queues. What a short queue does not need goes to the longer ones. */
function shares(lengths: readonly number[], count: number): number[] {
  const given = lengths.map(() => 0);
  const byLength = [...lengths.keys()].sort((a, b) => lengths[a]! - lengths[b]!);
  let missing = count;
  for (const [i, queue] of byLength.entries()) {
    given[queue] = Math.min(lengths[queue]!, Math.ceil(missing / (lengths.length - i)));
    missing -= given[queue];
  }
  return given;
}

function waitingMessage({ content, properties: { timestamp, headers } }: ConsumeMessage): WaitingMessage {
  return {
    body: content,
    publishedAt: timestamp === undefined ? null : new Date(Number(timestamp) * 1_000),
    deliveries: Number(headers?.['x-delivery-count'] ?? 0),
  };
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
  let deliveredAt = performance.now();
  try {
    await channel.prefetch(count);
    await channel.consume(name, (message) => {
      deliveredAt = performance.now();
      if (message) messages.push(message);
    });
    const ended = () =>
      messages.length >= count || Boolean(failure) || performance.now() - deliveredAt >= DELIVERY_TIMEOUT_MS;
    await poll(ended, { everyMs: POLL_MS });
  } finally {
    await channel.close().catch(() => {});
  }
  if (failure) throw failure;
  if (messages.length === 0) throw consumed(name);
  return messages;
}
