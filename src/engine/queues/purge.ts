import type { BarrierQueue, Bus, Delivery, DURABLE_QUEUES } from '../bus/bus.ts';
import { depthOf, heldIn } from '../bus/depths.ts';
import { until } from '../bus/drained.ts';
import { serialBatches } from '../bus/serialBatches.ts';
import type { Database } from '../database/database.ts';
import { workersOf } from '../fanout/laneControl.ts';
import { FeedctlError } from '../model/errors.ts';
import type { MessageContent } from '../model/messageContent.ts';
import { runOperation, saveProgress } from '../operations/run.ts';
import { type EventSpan, eventsAbout } from '../store/events.ts';
import { readLanes } from '../store/lanes.ts';
import { type Composition, eventsBehind, lanesOfQueue, MessageTally } from './tally.ts';

interface Context {
  readonly db: Database;
  readonly bus: Bus;
}

export type DurableQueue = (typeof DURABLE_QUEUES)[number];

/** In hand at a time, and answered together. */
const PREFETCH = 100;
/** Messages that a rehearsal looks at. */
const LOOKED_AT = 1_000;
const GIVE_BACK_MS = 5_000;

export interface PurgePlan {
  readonly queue: DurableQueue;
  /** That wait. */
  readonly messages: number;
  /** Of the first 1,000 of them. */
  readonly composition: Composition;
  /** Events that, dispatched again, do what those messages would have done; null where the log has none of them. */
  readonly redispatch: EventSpan | null;
}

export interface Purged {
  readonly queue: DurableQueue;
  readonly messages: number;
  readonly composition: Composition;
  readonly redispatch: EventSpan | null;
  readonly seconds: number;
  /** Ended by a signal before the queue was empty. */
  readonly stopped: boolean;
}

/**
 * While workers take messages of a queue a purge would get some of them, and none of what they have in hand. Throws
 * QUEUE_CONSUMED.
 */
async function checkStanding(db: Database, queue: DurableQueue): Promise<void> {
  const lanes = lanesOfQueue(queue);
  const { standing, of } = await workersOf(db, lanes);
  if (standing === of) return;
  const paused = (await readLanes(db)).filter((lane) => lane.paused).map((lane) => lane.lane);
  const lane = lanes.length > 1 ? 'all' : lanes[0]!;
  const isPaused = lanes.every((name) => paused.includes(name));
  throw new FeedctlError(
    'QUEUE_CONSUMED',
    `${of - standing} worker(s) ${isPaused ? 'still hold' : 'take'} messages of ${queue}`,
    {
      suggestions: [
        isPaused
          ? 'Wait until they have finished: `feedctl worker list` says who has.'
          : `Run \`feedctl fanout pause --lane ${lane}\` first, and \`feedctl fanout resume --lane ${lane}\` afterwards.`,
      ],
    },
  );
}

/** What a purge would take away. Throws QUEUE_CONSUMED. */
export async function planPurge({ db, bus }: Context, queue: DurableQueue): Promise<PurgePlan> {
  await checkStanding(db, queue);
  const messages = depthOf(await bus.depths(), queue).ready;
  const tally = new MessageTally();
  const contents = (await bus.peek(queue, LOOKED_AT)).map(({ body }) => tally.add(body));
  return { queue, messages, composition: tally.result(), redispatch: await spanOf(db, contents, null) };
}

/**
 * Takes everything out of a queue that waits in it, as its consumer, so that whoever waits for what was in it goes on.
 * Which events to dispatch again is noted in `operations` before any message of theirs is gone: a purge that is
 * killed has lost nothing without a note, and the next one goes on. Throws QUEUE_CONSUMED or OPERATION_RUNNING.
 */
export async function purgeQueue(
  context: Context,
  queue: DurableQueue,
  options: { signal: AbortSignal; onProgress?: (done: number) => void },
): Promise<Purged> {
  const { db, bus } = context;
  const { signal } = options;
  await checkStanding(db, queue);
  return runOperation<{ redispatch: EventSpan | null }, Purged>(
    db,
    { kind: 'queue.purge', key: queue, signal },
    async (operation) => {
      const startedAt = performance.now();
      const tally = new MessageTally();
      let redispatch = operation.progress?.redispatch ?? null;
      let failure: unknown;
      const take = async (batch: readonly Delivery[]) => {
        if (failure) return;
        try {
          redispatch = await spanOf(
            db,
            batch.map(({ body }) => tally.add(body)),
            redispatch,
          );
          await saveProgress(db, operation.id, { redispatch, messages: tally.messages });
          for (const delivery of batch) delivery.ack();
          options.onProgress?.(tally.messages);
        } catch (error) {
          // They stay where they are: whoever stops gives them back.
          failure = error;
        }
      };
      const consumer = await bus.consume({ queues: [queue], prefetch: PREFETCH }, serialBatches(take));
      let stopped = false;
      try {
        // Not before: in a queue that is full there is no room for one.
        const barrier = isMarked(queue) ? await bus.placeBarrier([queue]) : undefined;
        await until(
          async () => failure !== undefined || (barrier ? bus.hasPassed(barrier) : isDrained(bus, queue)),
          operation.signal,
        );
      } catch (error) {
        // Cancelled from elsewhere it says so, and what is gone is in its progress.
        if (!signal.aborted) throw error;
        stopped = true;
      } finally {
        await consumer.stop(failure ? 0 : GIVE_BACK_MS);
      }
      if (failure) throw failure;
      return {
        queue,
        messages: tally.messages,
        composition: tally.result(),
        redispatch,
        seconds: Math.round(performance.now() - startedAt) / 1_000,
        stopped,
      };
    },
  );
}

const isMarked = (queue: DurableQueue): queue is BarrierQueue & DurableQueue => queue !== 'cleanup';

const isDrained = async (bus: Bus, queue: string): Promise<boolean> =>
  heldIn(depthOf(await bus.depths(), queue)) === 0;

/** Widened by the events that these messages were made of. */
async function spanOf(
  db: Database,
  contents: readonly MessageContent[],
  known: EventSpan | null,
): Promise<EventSpan | null> {
  const spans = [known, await eventsAbout(db, contents.flatMap(eventsBehind))];
  const ids = contents.flatMap((content) =>
    content.kind === 'events' ? content.events.map((event) => event.id) : [],
  );
  for (const id of ids) spans.push({ fromId: id, toId: id });
  return spans.reduce<EventSpan | null>(
    (span, one) =>
      span && one
        ? { fromId: Math.min(span.fromId, one.fromId), toId: Math.max(span.toId, one.toId) }
        : (one ?? span),
    null,
  );
}
