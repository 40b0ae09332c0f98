import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import type { EventType, FeedEvent } from '../model/event.ts';
import { firstIdAt } from '../model/ids.ts';
import { type OperationRow, operationsSince } from '../operations/table.ts';
import { DatabaseClock } from '../store/databaseClock.ts';
import { eventsAfter, lastEvents } from '../store/events.ts';

const POLL_MS = 500;
/** Events are read again for this long: one may be committed after another with a higher id. */
const REORDER_MS = 5_000;

export type ListedEvent = FeedEvent & { readonly dispatchedAt: Date | null };

/** A long operation started, resumed after an interruption, or ended. */
export interface OperationEvent
  extends Pick<OperationRow, 'kind' | 'key' | 'who' | 'command' | 'result' | 'error'> {
  readonly type: 'operation.started' | 'operation.resumed' | 'operation.ended';
  readonly operationId: number;
  readonly occurredAt: Date;
  readonly state: OperationRow['state'];
}

export interface TailQuery {
  readonly limit: number;
  readonly follow: boolean;
  readonly userId?: number;
  readonly type?: EventType;
  /** Includes operations. */
  readonly operations?: boolean;
  readonly signal: AbortSignal;
}

/**
 * Yields the last events, the oldest first. With `follow` it then yields new events, each once,
 * until the signal. Operations are sorted in by their time.
 */
export async function* tailEvents(
  db: Database,
  query: TailQuery,
): AsyncGenerator<ListedEvent | OperationEvent> {
  const clock = new DatabaseClock();
  await clock.read(db);
  const startedAt = clock.now();
  const seen = new Set<number>();
  const yielded = new Set<string>();
  const events = await lastEvents(db, query);
  for (const event of events) seen.add(event.id);
  const operations = await operationEvents(db, query, undefined, yielded);
  // Without all events an older operation is not among the last ones.
  const from = events.length === query.limit ? (events[0]?.occurredAt ?? new Date(startedAt)) : new Date(0);
  yield* [...events, ...operations.filter((one) => one.occurredAt >= from)].sort(
    (a, b) => a.occurredAt.getTime() - b.occurredAt.getTime(),
  );
  let fromId = firstIdAt(startedAt);
  let since = new Date(startedAt - REORDER_MS);
  while (query.follow && !query.signal.aborted) {
    const now = clock.now();
    const windowStart = firstIdAt(now - REORDER_MS);
    for (const event of await eventsAfter(db, fromId, query)) {
      if (seen.has(event.id)) continue;
      seen.add(event.id);
      yield event;
    }
    yield* await operationEvents(db, query, since, yielded);
    since = new Date(now - REORDER_MS);
    fromId = Math.max(fromId, windowStart);
    for (const id of seen) if (id < fromId) seen.delete(id);
    await sleep(POLL_MS, undefined, { signal: query.signal }).catch(() => {});
  }
}

/**
 * Returns the events of operations that were not yielded before, the oldest first, and records
 * them.
 */
async function operationEvents(
  db: Database,
  query: TailQuery,
  since: Date | undefined,
  yielded: Set<string>,
): Promise<OperationEvent[]> {
  if (!query.operations) return [];
  const rows = await operationsSince(db, since, Math.max(1, query.limit));
  const events = rows.flatMap((row) => {
    const { id: operationId, kind, key, who, command, state, result, error } = row;
    const one = { operationId, kind, key, who, command, state, result, error };
    const started = row.runs > 1 ? ('operation.resumed' as const) : ('operation.started' as const);
    return [
      { ...one, type: started, occurredAt: row.resumedAt },
      ...(row.finishedAt ? [{ ...one, type: 'operation.ended' as const, occurredAt: row.finishedAt }] : []),
    ];
  });
  return events
    .filter(({ operationId, type, occurredAt }) => {
      const name = `${operationId} ${type} ${occurredAt.getTime()}`;
      return !yielded.has(name) && yielded.add(name);
    })
    .sort((a, b) => a.occurredAt.getTime() - b.occurredAt.getTime());
}
