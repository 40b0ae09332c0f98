import { createHash } from 'node:crypto';
import type { Channel, GetMessage } from 'amqplib';
import type { NewDeadLetter } from '../../store/deadLetters.ts';
import type { AdminChannel } from './adminChannel.ts';
import { ORIGIN } from './origins.ts';
import { DEAD_LETTERS } from './queueNames.ts';

/** Messages fetched from the broker at a time: up to 30 MB if all of them are full rows messages. */
const BATCH = 100;

interface Clusters {
  /** Its letters are kept. */
  readonly own: string;
  /** Their virtual host has been adopted. */
  readonly gone: readonly string[];
}

/**
 * Moves dead letters from the broker to the database, where they can be listed: reading a queue of the
 * broker takes its messages. Each letter is stored before it is acked. A process killed in between
 * leaves one at the broker that is stored again under the same id. Letters of another cluster stay there, and
 * those of clusters that are gone are dropped, as their messages are.
 */
export async function collectDeadLetters(
  adminChannel: AdminChannel,
  clusters: Clusters,
  keep: (letters: readonly NewDeadLetter[]) => Promise<void>,
): Promise<void> {
  const states = await adminChannel.states(DEAD_LETTERS);
  for (const [name, { ready }] of states) {
    // Letters that arrive meanwhile are left for the next call.
    for (let left = ready; left > 0; ) {
      const most = Math.min(left, BATCH);
      const count = await adminChannel.run((channel) => collect(channel, { name, most, ...clusters }, keep));
      if (count === 0) break;
      left -= count;
    }
  }
}

/** Returns the number of letters that are settled. */
async function collect(
  channel: Channel,
  { name, most, own, gone }: Clusters & { name: string; most: number },
  keep: (letters: readonly NewDeadLetter[]) => Promise<void>,
): Promise<number> {
  const answers = await Promise.all(Array.from({ length: most }, () => channel.get(name)));
  const found = answers.filter((message) => message !== false);
  const clusterOf = ({ properties }: GetMessage) =>
    String(properties.headers?.[ORIGIN] ?? own).split('.')[0]!;
  const messages = found.filter((message) => clusterOf(message) === own);
  const dropped = found.filter((message) => gone.includes(clusterOf(message)));
  for (const message of found)
    if (!messages.includes(message) && !dropped.includes(message)) channel.nack(message);
  for (const message of dropped) channel.ack(message);
  try {
    await keep(messages.map((message) => deadLetterOf(name, message)));
  } catch (error) {
    for (const message of messages) channel.nack(message);
    throw error;
  }
  for (const message of messages) channel.ack(message);
  return messages.length + dropped.length;
}

/** Header of a message that the broker itself dead-lettered, after too many deliveries. */
interface Death {
  readonly reason: string;
  readonly count: number;
  readonly time: { value: number };
}

/** The database stores no text with a zero byte. */
const stored = (header: unknown): string => String(header).replaceAll('\0', '');
/** Maximum of the column. */
const MAX_ATTEMPTS = 32_767;

function deadLetterOf(name: string, message: GetMessage): NewDeadLetter {
  const headers = message.properties.headers ?? {};
  const ours = typeof headers.reason === 'string';
  const deaths: unknown = headers['x-death'];
  const death = Array.isArray(deaths) ? (deaths[0] as Partial<Death> | undefined) : undefined;
  const queue = ours ? stored(headers.queue) : name.replace('feed.dead.', '');
  const died = ours ? Date.parse(String(headers['died-at'])) : Number(death?.time?.value) * 1_000;
  // A letter that another program has made may lack its time, and must not hold up the others.
  const diedAt = new Date(Number.isFinite(died) ? died : 0);
  const digest = createHash('sha256')
    .update(`${queue} ${diedAt.toISOString()} `)
    .update(message.content)
    .digest();
  return {
    id: digest.readUIntBE(0, 6) + 1,
    queue,
    body: message.content,
    attempts: ours ? Math.min(MAX_ATTEMPTS, Math.max(0, Math.trunc(Number(headers.attempts)) || 0)) : 0,
    reason: ours
      ? stored(headers.reason)
      : `dead-lettered by the broker: ${death?.reason ?? 'no reason given'}`,
    diedAt,
  };
}
