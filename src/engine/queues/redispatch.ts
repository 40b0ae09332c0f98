import type { Bus } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import { dispatch } from '../fanout/dispatcher.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import type { EventType } from '../model/event.ts';
import { runOperation, saveProgress, type Work } from '../operations/run.ts';
import { countEvents, type EventRange, eventsInRange } from '../store/events.ts';
import { paceCalls } from '../util/pace.ts';

/** Of one message of the bus. */
const AT_A_TIME = 2_000;

export interface Redispatched {
  /** In the log, by type. */
  readonly matched: Partial<Record<EventType, number>>;
  /** Dispatched, by earlier runs of the same operation too. */
  readonly events: number;
  /** The next event to dispatch, where it ended before the last: `--from-id` goes on there. */
  readonly nextId: number | null;
  readonly seconds: number;
  readonly dryRun: boolean;
}

interface RedispatchOptions {
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  /** Events a second at most. */
  readonly rate?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/** What a run that comes after goes on from. */
interface RedispatchProgress {
  /** As it was when the operation began: what was asked for may be relative to now. */
  readonly range: EventRange;
  readonly from: number;
  readonly done: number;
}

/**
 * `redispatchEvents` as an operation. `asked`: the range in the words of who asked for it; what was cut off goes on when the same is asked
 * for. Throws OPERATION_RUNNING, OPERATION_CANCELLED.
 */
export async function redispatch(
  { db, bus }: { db: Database; bus: Bus },
  asked: string,
  range: EventRange,
  { onResume, ...options }: RedispatchOptions & Pick<Work, 'onResume'>,
): Promise<Redispatched> {
  if (options.dryRun) return redispatchEvents({ db, bus }, range, options);
  let stopped: Redispatched | undefined;
  const work = { kind: 'redispatch', key: asked, signal: options.signal, onResume };
  const run = runOperation<RedispatchProgress, Redispatched>(db, work, async ({ id, progress, signal }) => {
    const whole = progress?.range ?? range;
    const result = await redispatchEvents(
      { db, bus },
      whole,
      { ...options, signal },
      progress,
      (now, total) =>
        saveProgress(db, id, { range: whole, ...now }, { done: now.done, total, unit: 'events' }),
    );
    if (result.nextId === null) return result;
    stopped = result;
    throw new FeedctlError('INTERRUPTED', `stopped before event ${result.nextId}`);
  });
  return run.catch((error) => {
    if (stopped && isFeedctlError(error, 'INTERRUPTED')) return stopped;
    throw error;
  });
}

/**
 * Publishes events of the log once more, in the bulk lane. Each does again what it did: rows that are there stay as they
 * are, pairs and feeds become what is true now, and no socket is told. So it may be done any number of times.
 * Throws QUEUE_FULL only where nothing at all was taken; later it waits for room.
 */
export async function redispatchEvents(
  { db, bus }: { db: Database; bus: Bus },
  range: EventRange,
  options: RedispatchOptions,
  earlier: { readonly from: number; readonly done: number } = { from: range.from, done: 0 },
  note?: (now: { from: number; done: number }, total: number) => Promise<void>,
): Promise<Redispatched> {
  const { dryRun, signal, rate } = options;
  const startedAt = performance.now();
  const matched = await countEvents(db, range);
  const total = Object.values(matched).reduce((sum, count) => sum + count, 0);
  const result = (events: number, nextId: number | null): Redispatched => ({
    matched,
    events,
    nextId,
    seconds: Math.round(performance.now() - startedAt) / 1_000,
    dryRun,
  });
  if (dryRun) return result(0, null);
  let { done, from } = earlier;
  for (;;) {
    if (signal.aborted) return result(done, from);
    const events = await eventsInRange(db, { ...range, from }, Math.min(AT_A_TIME, rate ?? AT_A_TIME));
    if (events.length === 0) return result(done, null);
    const committedAt = events[0]!.occurredAtMs;
    await dispatch({ db, bus }, events, { importId: 0, committedAt, feedsOnly: true }, 'events.bulk');
    done += events.length;
    from = events.at(-1)!.id + 1;
    await note?.({ from, done }, total);
    options.onProgress?.(done, total);
    // Stopped meanwhile: the next round says where.
    await paceCalls(done - earlier.done, { rate, startedAt, signal }).catch(() => {});
  }
}
