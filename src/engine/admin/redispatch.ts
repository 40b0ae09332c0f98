import type { Bus } from '../bus/bus.ts';
import { dispatch } from '../fanout/dispatcher.ts';
import type { EventType } from '../model/event.ts';
import { keepPace } from '../resilience/pace.ts';
import type { Database } from '../store/database.ts';
import { countEvents, type EventRange, eventsInRange } from '../store/events.ts';

/** Of one message of the bus. */
const AT_A_TIME = 2_000;

export interface Redispatched {
  /** In the log, by type. */
  readonly matched: Partial<Record<EventType, number>>;
  readonly events: number;
  /** The next event to dispatch, where it ended before the last: `--from-id` goes on there. */
  readonly nextId: number | null;
  readonly seconds: number;
  readonly dryRun: boolean;
}

/**
 * Publishes events of the log once more, in the bulk lane. Each does again what it did: rows that are there stay as they
 * are, pairs and feeds become what is true now, and no socket is told. So it may be done any number of times.
 * Throws QUEUE_FULL only where nothing at all was taken; later it waits for room.
 */
export async function redispatchEvents(
  { db, bus }: { db: Database; bus: Bus },
  range: EventRange,
  options: {
    dryRun: boolean;
    signal: AbortSignal;
    /** Events a second at most. */
    rate?: number;
    onProgress?: (done: number, total: number) => void;
  },
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
  let done = 0;
  for (let from = range.from; ; ) {
    if (signal.aborted) return result(done, from);
    const events = await eventsInRange(db, { ...range, from }, Math.min(AT_A_TIME, rate ?? AT_A_TIME));
    if (events.length === 0) return result(done, null);
    const committedAt = events[0]!.occurredAtMs;
    await dispatch({ db, bus }, events, { run: 0, committedAt, feedsOnly: true }, 'events.bulk');
    done += events.length;
    from = events.at(-1)!.id + 1;
    options.onProgress?.(done, total);
    // Stopped meanwhile: the next round says where.
    await keepPace(done, { rate, startedAt, signal }).catch(() => {});
  }
}
