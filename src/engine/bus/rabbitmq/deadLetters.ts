import { createHash } from 'node:crypto';
import type { Channel, GetMessage } from 'amqplib';
import type { NewDeadLetter } from '../../store/deadLetters.ts';
import type { AdminChannel } from './adminChannel.ts';
import { DEAD_LETTERS } from './queueNames.ts';

/** Got from the broker at a time: up to 30 MB where all are full messages of rows. */
const AT_A_TIME = 100;

/**
 * Moves what was put aside at the broker to where it can be looked at: a queue only has a front, and looking at it
 * takes from it. Each is kept before it is acked; whoever is killed in between leaves one that is met again under the
 * same id.
 */
export async function collectDeadLetters(
  adminChannel: AdminChannel,
  keep: (letters: readonly NewDeadLetter[]) => Promise<void>,
): Promise<void> {
  const states = await adminChannel.states(DEAD_LETTERS);
  for (const [name, { ready }] of states) {
    // Those that come meanwhile are for the next time.
    for (let left = ready; left > 0; ) {
      const got = await adminChannel.run((channel) =>
        collect(channel, name, Math.min(left, AT_A_TIME), keep),
      );
      if (got === 0) break;
      left -= got;
    }
  }
}

async function collect(
  channel: Channel,
  name: string,
  count: number,
  keep: (letters: readonly NewDeadLetter[]) => Promise<void>,
): Promise<number> {
  const answers = await Promise.all(Array.from({ length: count }, () => channel.get(name)));
  const messages = answers.filter((message) => message !== false);
  try {
    await keep(messages.map((message) => deadLetterOf(name, message)));
  } catch (error) {
    for (const message of messages) channel.nack(message);
    throw error;
  }
  for (const message of messages) channel.ack(message);
  return messages.length;
}

/** What the broker itself notes where it put a message aside: it was handed out too often. */
interface Death {
  readonly reason: string;
  readonly count: number;
  readonly time: { value: number };
}

function deadLetterOf(name: string, message: GetMessage): NewDeadLetter {
  const headers = message.properties.headers ?? {};
  const ours = typeof headers.reason === 'string';
  const [death] = (headers['x-death'] ?? []) as unknown as Death[];
  const queue = ours ? String(headers.queue) : name.replace('feed.dead.', '');
  const diedAt = ours ? new Date(String(headers['died-at'])) : new Date((death?.time.value ?? 0) * 1_000);
  const digest = createHash('sha256')
    .update(`${queue} ${diedAt.toISOString()} `)
    .update(message.content)
    .digest();
  return {
    id: digest.readUIntBE(0, 6) + 1,
    queue,
    body: message.content,
    attempts: ours ? Number(headers.attempts) : 0,
    reason: ours ? String(headers.reason) : `put aside by the broker: ${death?.reason ?? 'no reason given'}`,
    diedAt,
  };
}
