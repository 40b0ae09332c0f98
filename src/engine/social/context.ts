import type { Bus } from '../bus/bus.ts';
import type { FeedChanges } from '../cache/changes.ts';
import type { Database, Queryable } from '../database/database.ts';
import { dispatch, dispatchWithin, type TracedEvent } from '../fanout/dispatcher.ts';
import type { Unfollows } from '../live/unfollows.ts';
import { messageOf } from '../model/errors.ts';
import { idsOfEvents } from '../model/messageIds.ts';
import type { ProcessStats } from '../stats/process.ts';
import type { Clock } from '../store/databaseClock.ts';
import type { DispatchMarks } from '../store/dispatchMarks.ts';
import type { IdSource } from '../store/idLeases.ts';
import type { Log } from '../telemetry/log.ts';
import type { Tracing } from '../telemetry/tracing.ts';

/** Dependencies of people's actions. */
export interface SocialContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly changes: FeedChanges;
  readonly ids: IdSource;
  readonly clock: Clock;
  readonly marks: DispatchMarks;
  /** Confirms an unfollow with gateways before it is acknowledged. */
  readonly unfollows: Unfollows;
  readonly log: Log;
  readonly tracing?: Tracing | undefined;
  /** Statistics of a role's process; commands have none. */
  readonly stats?: ProcessStats | undefined;
}

/**
 * Dispatches committed events. Never rejects: the sweeper publishes events that the bus does not
 * take now.
 */
export async function dispatchCommitted(
  context: SocialContext,
  events: readonly TracedEvent[],
  queue: 'events' | 'events.bulk' = 'events',
): Promise<void> {
  try {
    const header = { importId: 0, committedAt: context.clock.now() };
    // Events of a seed are one batch already.
    await dispatch(context, events, header, queue, queue === 'events' ? context.marks : undefined);
  } catch (error) {
    const fields = { events: events.length, ...idsOfEvents(events), reason: messageOf(error) };
    context.log.warn(fields, 'events left to the sweeper');
  }
}

interface Committed<T> {
  readonly result: T;
  /** False: the event of the change, if there is one, has to be dispatched now. */
  readonly dispatched: boolean;
}

/**
 * Commits a change with its event. The event is published by the same transaction if the queue is in the
 * store's database and takes it.
 *
 * `write` gets true if the event counts as dispatched. `isNew` returns whether it has written the event.
 */
export async function commit<T>(
  context: SocialContext,
  event: TracedEvent,
  write: (db: Queryable, dispatched: boolean) => Promise<T>,
  isNew: (result: T) => boolean,
): Promise<Committed<T>> {
  const { db, log } = context;
  const publish = await dispatchWithin(context);
  let refusal: unknown;
  if (publish) {
    try {
      const result = await db.transaction(async (session) => {
        const written = await write(session, true);
        if (isNew(written))
          await publish(session, [event]).catch((error) => {
            refusal = error;
            throw error;
          });
        return written;
      });
      log.debug?.({ queue: 'events', ...idsOfEvents([event]) }, 'events dispatched');
      return { result, dispatched: true };
    } catch (error) {
      // A queue that is full refuses no post: the sweeper publishes the event later.
      if (refusal === undefined) throw error;
    }
  }
  return { result: await write(db, false), dispatched: false };
}
