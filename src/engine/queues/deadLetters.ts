import type { Bus, Outgoing, QueueName } from '../bus/bus.ts';
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

/** Of one transaction: whoever replays is cut off with so many done or undone at most. */
const AT_A_TIME = 100;

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
  /** Messages a second at most. */
  readonly rate?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface SettledLetters {
  /** That matched when it began. */
  readonly matched: number;
  readonly done: number;
  /** Of gateways: the sockets they were for have read the feed since. They can only be discarded. */
  readonly ofGateways: number;
  /** Why it ended before all were done. */
  readonly stopped?: string;
  readonly dryRun: boolean;
}

/**
 * Gives dead letters back to their queues. A letter goes away with its message being published, so that doing it again
 * finds nothing left; whoever is killed in between has published a message twice, which changes no feed.
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
      ({ queue, body }): Outgoing => ({ queue: queue as QueueName, body, key: keyOf(body) }),
    );
    await (publishIn ? publishIn(session, messages) : bus.publish(messages));
  });
}

/** Their bytes are gone; the events they were made of are in the log, and can be dispatched again. */
export function discardDeadLetters(
  context: Context,
  filter: DeadLetterFilter,
  options: SettleOptions,
): Promise<SettledLetters> {
  return settle(context, filter, options, false, async () => {});
}

/** Events of one author keep their order by it; rows come to the same feeds whatever partition they go by. */
function keyOf(body: Buffer): number {
  const content = messageContent(body);
  return content.kind === 'events' ? (content.events[0]?.aggregateId ?? 0) : 0;
}

async function settle(
  { db, bus }: Context,
  filter: DeadLetterFilter,
  { dryRun, signal, rate, onProgress }: SettleOptions,
  toQueues: boolean,
  work: Parameters<typeof takeDeadLetters>[3],
): Promise<SettledLetters> {
  await bus.collectDeadLetters?.();
  const { total } = await findDeadLetters(db, filter, 0);
  const ofGateways = toQueues ? await countOfGateways(db, filter) : 0;
  const matched = total - ofGateways;
  if (dryRun || matched === 0) return { matched, done: 0, ofGateways, dryRun };
  // The oldest first, and no more than there were: what dies again meanwhile is for the next time.
  const what = { ...filter, exceptOfGateways: toQueues };
  const startedAt = performance.now();
  let done = 0;
  try {
    while (done < matched) {
      signal.throwIfAborted();
      const count = Math.min(matched - done, AT_A_TIME, rate ?? AT_A_TIME);
      const taken = await takeDeadLetters(db, what, count, work);
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
