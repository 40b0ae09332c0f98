import type { Queryable } from '../../database/types.ts';
import { lastEvents } from '../../store/events.ts';
import type { ListedEvent } from '../events.ts';

const MAX_EVENTS = 200;

/** An event of the log, without its data: a recording of `top` has no texts of users. */
export type TopEvent = Omit<ListedEvent, 'data'>;

/** Returns the last events, the newest first. */
export async function readRecentEvents(db: Queryable): Promise<TopEvent[]> {
  const rows = await lastEvents(db, { limit: MAX_EVENTS });
  return rows.map(({ data: _, ...event }) => event).reverse();
}
