import type { Bus } from '../bus/bus.ts';
import type { FeedChanges } from '../cache/changes.ts';
import type { Database } from '../database/database.ts';
import { dispatch, type TracedEvent } from '../fanout/dispatcher.ts';
import type { Unfollows } from '../live/unfollows.ts';
import { messageOf } from '../model/errors.ts';
import { idsOfEvents } from '../model/messageIds.ts';
import type { ProcessStats } from '../stats/process.ts';
import type { IdSource } from '../store/idLeases.ts';
import type { Log } from '../telemetry/log.ts';
import type { Tracing } from '../telemetry/tracing.ts';

/** What people's actions need: where to write, what to tell, and ids. */
export interface SocialContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly changes: FeedChanges;
  readonly ids: IdSource;
  /** How gateways are told of an unfollow before it is acknowledged. */
  readonly unfollows: Unfollows;
  readonly log: Log;
  readonly tracing?: Tracing | undefined;
  /** Of a role's process: what it does is counted. */
  readonly stats?: ProcessStats | undefined;
}

/** The events are committed: whether the bus takes them now or from the sweeper later is not the caller's concern. */
export async function dispatchCommitted(
  context: SocialContext,
  events: readonly TracedEvent[],
  queue: 'events' | 'events.bulk' = 'events',
): Promise<void> {
  try {
    await dispatch(context, events, { importId: 0, committedAt: Date.now() }, queue);
  } catch (error) {
    const said = { events: events.length, ...idsOfEvents(events), reason: messageOf(error) };
    context.log.warn(said, 'events left to the sweeper');
  }
}
