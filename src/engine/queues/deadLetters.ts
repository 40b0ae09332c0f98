import { ANY_LINEAGE, type Bus, type Outgoing, type QueueName } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { type MessageContent, messageContent } from '../model/messageContent.ts';
import {
  type DeadLetter,
  type DeadLetterFilter,
  deadLetterBody,
  findDeadLetters,
  takeDeadLetters,
} from '../store/deadLetters.ts';
import { paceCalls } from '../util/pace.ts';

interface Context {
  readonly db: Database;
  readonly bus: Bus;
}

/** Letters of one transaction: an interrupted replay has published this many twice at most. */
const BATCH = 100;

export async function listDeadLetters(
  { db, bus }: Context,
  filter: DeadLetterFilter,
  limit: number,
): Promise<{ total: number; letters: DeadLetter[] }> {
  await bus.collectDeadLetters?.();
  return findDeadLetters(db, filter, limit);
}

/** Throws DEAD_LETTER_NOT_FOUND. */
export async function showDeadLetter(
  { db, bus }: Context,
  id: number,
): Promise<DeadLetter & { content: MessageContent }> {
  await bus.collectDeadLetters?.();
  const { letters } = await findDeadLetters(db, { ids: [id] }, 1);
  const body = await deadLetterBody(db, id);
  if (!letters[0] || !body) throw new FeedctlError('DEAD_LETTER_NOT_FOUND', `there is no dead letter ${id}`);
  return { ...letters[0], content: messageContent(body) };
}

export interface SettleOptions {
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  /** Maximum messages per second. */
  readonly rate?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface SettledLetters {
  /** Letters that matched at the start. */
  readonly matched: number;
  readonly done: number;
  /** Letters of gateways, which are not replayed: their sockets have read the feed since. */
  readonly ofGateways: number;
  /** Error that ended it before all were done. */
  readonly stopped?: string;
  readonly dryRun: boolean;
}

/**
 * Publishes dead letters to their queues again, and deletes each with the publication. A process killed
 * in between publishes its messages twice at the next replay, which changes no feed.
 */
export async function replayDeadLetters(
  context: Context,
  filter: DeadLetterFilter,
  options: SettleOptions,
): Promise<SettledLetters> {
  const { bus } = context;
  const publishIn = bus.publishIn?.bind(bus);
  return settle(context, filter, options, true, async (session, letters) => {
    const messages = letters.map(
      // The database may have lost what a letter is about.
      ({ queue, body }): Outgoing => ({
        queue: queue as QueueName,
        body,
        key: keyOf(body),
        lineage: ANY_LINEAGE,
      }),
    );
    await (publishIn ? publishIn(session, messages) : bus.publish(messages));
  });
}

/** Deletes dead letters. Their events stay in the log and can be dispatched again. */
export function discardDeadLetters(
  context: Context,
  filter: DeadLetterFilter,
  options: SettleOptions,
): Promise<SettledLetters> {
  return settle(context, filter, options, false, async () => {});
}

/** Returns the key that keeps an author's events in order. Rows need none: any partition writes them. */
function keyOf(body: Buffer): number {
  const content = messageContent(body);
  return content.kind === 'events' ? (content.events[0]?.aggregateId ?? 0) : 0;
}

async function settle(
  { db, bus }: Context,
  filter: DeadLetterFilter,
  { dryRun, signal, rate, onProgress }: SettleOptions,
  replay: boolean,
  work: Parameters<typeof takeDeadLetters>[3],
): Promise<SettledLetters> {
  await bus.collectDeadLetters?.();
  const { total } = await findDeadLetters(db, filter, 0);
  const ofGateways = replay ? await countOfGateways(db, filter) : 0;
  const matched = total - ofGateways;
  if (dryRun || matched === 0) return { matched, done: 0, ofGateways, dryRun };
  // The oldest first, no more than `matched`: letters that die again are left for the next replay.
  const selected = { ...filter, exceptOfGateways: replay };
  const startedAt = performance.now();
  let done = 0;
  try {
    while (done < matched) {
      signal.throwIfAborted();
      const count = Math.min(matched - done, BATCH, rate ?? BATCH);
      const taken = await takeDeadLetters(db, selected, count, work);
      if (taken === 0) break;
      done += taken;
      onProgress?.(done, matched);
      if (done < matched) await paceCalls(done, { rate, startedAt, signal });
    }
  } catch (error) {
    if (done === 0) throw error;
    return { matched, done, ofGateways, stopped: messageOf(error), dryRun };
  }
  return { matched, done, ofGateways, dryRun };
}

async function countOfGateways(db: Database, filter: DeadLetterFilter): Promise<number> {
  if (filter.queue !== undefined && filter.queue !== 'live') return 0;
  return (await findDeadLetters(db, { ...filter, queue: 'live' }, 0)).total;
}
