import { setTimeout as sleep } from 'node:timers/promises';
import type { EventType, FeedEvent } from '../model/event.ts';
import { firstIdAt } from '../model/ids.ts';
import type { Database } from '../store/database.ts';
import { eventsAfter, lastEvents } from '../store/events.ts';

const LOOK_EVERY_MS = 500;
/** Several processes mint ids, each by its own clock: an event may be committed after one with a higher id. */
const REORDER_MS = 5_000;

export type ListedEvent = FeedEvent & { readonly dispatchedAt: Date | null };

export interface TailQuery {
  readonly limit: number;
  readonly follow: boolean;
  readonly userId?: number;
  readonly type?: EventType;
  readonly signal: AbortSignal;
}

/** The last events, oldest of them first; with `follow` also those that come, each once, until the signal. */
export async function* tailEvents(db: Database, query: TailQuery): AsyncGenerator<ListedEvent> {
  const startedAt = Date.now();
  const seen = new Set<number>();
  for (const event of await lastEvents(db, query)) {
    seen.add(event.id);
    yield event;
  }
  let from = firstIdAt(startedAt);
  while (query.follow && !query.signal.aborted) {
    const windowStart = firstIdAt(Date.now() - REORDER_MS);
    for (const event of await eventsAfter(db, from, query)) {
      if (seen.has(event.id)) continue;
      seen.add(event.id);
      yield event;
    }
    from = Math.max(from, windowStart);
    for (const id of seen) if (id < from) seen.delete(id);
    await sleep(LOOK_EVERY_MS, undefined, { signal: query.signal }).catch(() => {});
  }
}
