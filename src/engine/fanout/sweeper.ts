import { undispatchedEvents } from '../store/events.ts';
import { type DispatchContext, dispatch } from './dispatcher.ts';

/** Younger events may still be dispatched by the process that wrote them. */
const MIN_AGE_MS = 2_000;
const BATCH = 2_000;
/** More events than this are those of an import that was interrupted. */
const MAX_LIVE = 200;

/**
 * Publishes events that were committed but not dispatched, because their process died or the bus
 * refused them. One sweeper works at a time, by a lock of its transaction. Returns the number of
 * published events.
 */
export async function sweep(
  context: DispatchContext,
  { minAgeMs = MIN_AGE_MS }: { minAgeMs?: number } = {},
): Promise<number> {
  // Most turns find nothing: one statement instead of a transaction of four.
  if ((await undispatchedEvents(context.db, minAgeMs, 1)).length === 0) return 0;
  return context.db.transaction(async (session) => {
    const { rows } = await session.query<{ mine: boolean }>(
      `select pg_try_advisory_xact_lock(hashtext('feedctl sweeper')) as mine`,
    );
    if (!rows[0]!.mine) return 0;
    let swept = 0;
    for (;;) {
      const events = await undispatchedEvents(session, minAgeMs, BATCH);
      const queue = events.length > MAX_LIVE ? 'events.bulk' : 'events';
      if (events.length > 0)
        await dispatch(context, events, { importId: 0, committedAt: events[0]!.occurredAtMs }, queue);
      swept += events.length;
      if (events.length < BATCH) return swept;
    }
  });
}
