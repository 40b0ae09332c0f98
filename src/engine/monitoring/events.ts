import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import type { EventType, FeedEvent } from '../model/event.ts';
import { firstIdAt } from '../model/ids.ts';
import { type OperationRow, operationsSince } from '../operations/table.ts';
import { eventsAfter, lastEvents } from '../store/events.ts';

const POLL_MS = 500;
/** Several processes mint ids, each by its own clock: an event may be committed after one with a higher id. */
const REORDER_MS = 5_000;

export type ListedEvent = FeedEvent & { readonly dispatchedAt: Date | null };

/** Long work began, went on after it was cut off, or ended. */
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
  /** Operations too. */
  readonly operations?: boolean;
  readonly signal: AbortSignal;
}

/**
 * The last events, oldest of them first; with `follow` also those that come, each once, until the signal. Operations are among
 * them by their time.
 */
export async function* tailEvents(
  db: Database,
  query: TailQuery,
): AsyncGenerator<ListedEvent | OperationEvent> {
  const startedAt = Date.now();
  const seen = new Set<number>();
  const told = new Set<string>();
  const events = await lastEvents(db, query);
  for (const event of events) seen.add(event.id);
  const operations = await operationEvents(db, query, undefined, told);
  // Older than the oldest event that is shown, where there are more: not among the last.
  const from = events.length === query.limit ? (events[0]?.occurredAt ?? new Date(startedAt)) : new Date(0);
  yield* [...events, ...operations.filter((one) => one.occurredAt >= from)].sort(
    (a, b) => a.occurredAt.getTime() - b.occurredAt.getTime(),
  );
  let fromId = firstIdAt(startedAt);
  let since = new Date(startedAt - REORDER_MS);
  while (query.follow && !query.signal.aborted) {
    const now = Date.now();
    const windowStart = firstIdAt(now - REORDER_MS);
    for (const event of await eventsAfter(db, fromId, query)) {
      if (seen.has(event.id)) continue;
      seen.add(event.id);
      yield event;
    }
    yield* await operationEvents(db, query, since, told);
    since = new Date(now - REORDER_MS);
    fromId = Math.max(fromId, windowStart);
    for (const id of seen) if (id < fromId) seen.delete(id);
    await sleep(POLL_MS, undefined, { signal: query.signal }).catch(() => {});
  }
}

/** Those that are not told yet, oldest first. */
async function operationEvents(
  db: Database,
  query: TailQuery,
  since: Date | undefined,
  told: Set<string>,
): Promise<OperationEvent[]> {
  if (!query.operations) return [];
  const rows = await operationsSince(db, since, Math.max(1, query.limit));
  const events = rows.flatMap((row) => {
    const { id: operationId, kind, key, who, command, state, result, error } = row;
    const one = { operationId, kind, key, who, command, state, result, error };
    const begun = row.runs > 1 ? ('operation.resumed' as const) : ('operation.started' as const);
    return [
      { ...one, type: begun, occurredAt: row.resumedAt },
      ...(row.finishedAt ? [{ ...one, type: 'operation.ended' as const, occurredAt: row.finishedAt }] : []),
    ];
  });
  return events
    .filter(({ operationId, type, occurredAt }) => {
      const name = `${operationId} ${type} ${occurredAt.getTime()}`;
      return !told.has(name) && told.add(name);
    })
    .sort((a, b) => a.occurredAt.getTime() - b.occurredAt.getTime());
}
