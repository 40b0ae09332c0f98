import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { FeedctlError } from '../../model/errors.ts';
import type { WaitingMessage } from '../bus.ts';
import type { AdminChannel } from './adminChannel.ts';
import { BARRIER_TYPE } from './reader.ts';

const POLL_MS = 10;
/** A queue that sends nothing for so long has another consumer by now. */
const SILENT_MS = 3_000;
/** As long as the broker may take to count a consumer out whose channel is closed. */
const LEAVING_MS = 2_000;

/**
 * Some of the messages that wait in these queues of the broker, the same number from each. A queue with a single active
 * consumer shows its messages to that one alone: `basic.get`, and the management API with it, are refused (405). So
 * this becomes the consumer for a moment, where there is no other, and closes its channel: the messages are back in
 * their places. Measured with 3.10: each of them then has a delivery more, of the 100 it may have; had the consumer been
 * cancelled first, they would be back behind all others. Throws QUEUE_CONSUMED.
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
    for (const message of await look(connection, name, Math.min(ready, share))) {
      const { type, timestamp, headers } = message.properties;
      // The bus's own.
      if (type === BARRIER_TYPE) continue;
      found.push({
        body: message.content,
        publishedAt: timestamp === undefined ? null : new Date(Number(timestamp) * 1_000),
        deliveries: Number(headers?.['x-delivery-count'] ?? 0),
      });
    }
  }
  await left(
    adminChannel,
    waiting.map(([name]) => name),
  );
  return found.slice(0, limit);
}

/** Until the broker counts no consumer here, or not in time: a worker has come. Else the next look would find this one. */
async function left(adminChannel: AdminChannel, names: readonly string[]): Promise<void> {
  const until = Date.now() + LEAVING_MS;
  while (Date.now() < until) {
    const states = await adminChannel.states(names);
    if ([...states.values()].every(({ consumers }) => consumers === 0)) return;
    await sleep(POLL_MS);
  }
}

const consumed = (name: string) =>
  new FeedctlError('QUEUE_CONSUMED', `${name} is being consumed: RabbitMQ shows its messages to nobody else`);

async function look(connection: ChannelModel, name: string, count: number): Promise<ConsumeMessage[]> {
  const channel = await connection.createChannel();
  let failure: unknown;
  channel.on('error', (error) => {
    failure = error;
  });
  const messages: ConsumeMessage[] = [];
  let heardAt = Date.now();
  try {
    await channel.prefetch(count);
    await channel.consume(name, (message) => {
      heardAt = Date.now();
      if (message) messages.push(message);
    });
    while (messages.length < count && !failure && Date.now() - heardAt < SILENT_MS) await sleep(POLL_MS);
  } finally {
    await channel.close().catch(() => {});
  }
  if (failure) throw failure;
  if (messages.length === 0) throw consumed(name);
  return messages;
}
