import type { Bus } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import { dispatch } from '../fanout/dispatcher.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import type { EventType } from '../model/event.ts';
import { runOperation, saveProgress, type Work } from '../operations/run.ts';
import { countEvents, type EventRange, eventsInRange } from '../store/events.ts';
import { paceCalls } from '../util/pace.ts';

/** Events of one message. */
const BATCH = 2_000;

export interface Redispatched {
  /** Events of the range in the log, by type. */
  readonly matched: Partial<Record<EventType, number>>;
  /** Dispatched events, including those of earlier runs of the operation. */
  readonly events: number;
  /** Next event to dispatch, for `--from-id`. null: all are dispatched. */
  readonly nextId: number | null;
  readonly seconds: number;
  readonly dryRun: boolean;
}

interface RedispatchOptions {
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  /** Maximum events per second. */
  readonly rate?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

interface RedispatchProgress {
  /** Range of the first run: the requested one may be relative to now. */
  readonly range: EventRange;
  readonly from: number;
  readonly done: number;
}

/**
 * Runs `redispatchEvents` as an operation. `requested`: the range as flags name it. The next run with
 * the same text resumes an interrupted one. Throws OPERATION_RUNNING and OPERATION_CANCELLED.
 */
export async function redispatch(
  { db, bus }: { db: Database; bus: Bus },
  requested: string,
  range: EventRange,
  { onResume, ...options }: RedispatchOptions & Pick<Work, 'onResume'>,
): Promise<Redispatched> {
  if (options.dryRun) return redispatchEvents({ db, bus }, range, options);
  let stopped: Redispatched | undefined;
  const work = { kind: 'redispatch', key: requested, signal: options.signal, onResume };
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
 * Publishes events of the log again, in the bulk lane. Idempotent: existing rows stay, feeds get the
 * current state of follows and posts, and sockets get nothing.
 * Throws QUEUE_FULL only if no event was published; later it waits for room.
 */
export async function redispatchEvents(
  { db, bus }: { db: Database; bus: Bus },
  range: EventRange,
  options: RedispatchOptions,
  earlier: { readonly from: number; readonly done: number } = { from: range.from, done: 0 },
  save?: (now: { from: number; done: number }, total: number) => Promise<void>,
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
    const events = await eventsInRange(db, { ...range, from }, Math.min(BATCH, rate ?? BATCH));
    if (events.length === 0) return result(done, null);
    const committedAt = events[0]!.occurredAtMs;
    await dispatch({ db, bus }, events, { importId: 0, committedAt, feedsOnly: true }, 'events.bulk');
    done += events.length;
    from = events.at(-1)!.id + 1;
    await save?.({ from, done }, total);
    options.onProgress?.(done, total);
    // If the signal has aborted, the next round returns the position.
    await paceCalls(done - earlier.done, { rate, startedAt, signal }).catch(() => {});
  }
}
