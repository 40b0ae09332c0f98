import type { Bus } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import { ensureFeedPartitions, removeWideFeedPartitions } from '../database/feedPartitions.ts';
import { claimTurn } from '../database/leader.ts';
import { trim } from '../feed/trim/trim.ts';
import { liveQueue } from '../live/notifier.ts';
import { unregisterGateway } from '../live/presence.ts';
import { isFeedctlError } from '../model/errors.ts';
import { FEED_LIMIT } from '../model/feed.ts';
import { deleteOldStats } from '../stats/table.ts';
import type { Clock } from '../store/databaseClock.ts';
import { dropOldEventPartitions } from '../store/events.ts';
import { forgetOldIdempotencyKeys } from '../store/idempotency.ts';
import { ensurePartitions } from '../store/partitions.ts';
import { removeDeadWorkers, silentGateways } from '../store/processes.ts';
import { forgetOldRuns } from '../store/runs.ts';
import { forgetOldTickets } from '../store/tickets.ts';
import type { Log } from '../telemetry/log.ts';

const KEEP_EVENTS_DAYS = 30;
const ONE_ATTEMPT = { timeoutMs: 0 } as const;
const DEAD_AFTER_SECONDS = 30;
const SCAN_INTERVAL_SECONDS = 600;
/** 1.5 times the rows that are kept, so that a feed is not trimmed after every post. */
const TRIM_LONGER_THAN = FEED_LIMIT * 1.5;

export interface MaintenanceContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
}

/** Runs periodic maintenance. Every step is idempotent, so any worker may run it. */
export async function maintain({ db, bus, clock, log }: MaintenanceContext): Promise<void> {
  await maintainPartitions(db, clock, log);
  await forgetOldRuns(db);
  await forgetOldTickets(db);
  // One worker scans whole tables.
  if (await claimTurn(db, 'maintenance.trimmedAt', SCAN_INTERVAL_SECONDS)) {
    await keepPartitionsNarrow(db, clock, log);
    await trimLongFeeds(db, log);
    await forgetOldIdempotencyKeys(db);
  }
  await removeDeadWorkers(db, DEAD_AFTER_SECONDS);
  await deleteOldStats(db);
  for (const gateway of await silentGateways(db, DEAD_AFTER_SECONDS)) {
    // A gateway that is alive after all registers again, with another queue.
    if (!(await unregisterGateway(db, gateway, DEAD_AFTER_SECONDS))) continue;
    log.warn({ gateway }, 'gateway is dead: its queue is dropped');
    await bus.dropQueue(liveQueue(gateway));
  }
}

async function maintainPartitions(db: Database, clock: Clock, log: Log): Promise<void> {
  await unlessLocked(log, async () => {
    const now = clock.now();
    await ensurePartitions(db, now, ONE_ATTEMPT);
    const dropped = await dropOldEventPartitions(db, KEEP_EVENTS_DAYS, now, ONE_ATTEMPT);
    if (dropped.length > 0) log.info({ partitions: dropped }, 'old events dropped');
  });
}

async function keepPartitionsNarrow(db: Database, clock: Clock, log: Log): Promise<void> {
  await unlessLocked(log, async () => {
    await removeWideFeedPartitions(db, clock.now(), ONE_ATTEMPT);
    await ensureFeedPartitions(db, clock.now(), ONE_ATTEMPT);
  });
}

/** Leaves partitions that other sessions lock to the next run. Until then the last ones take new rows. */
async function unlessLocked(log: Log, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isFeedctlError(error, 'SCHEMA_LOCKED')) throw error;
    log.warn({ reason: error.message }, 'partitions not maintained');
  }
}

async function trimLongFeeds(db: Database, log: Log): Promise<void> {
  const { users, items } = await trim(db, undefined, { longerThan: TRIM_LONGER_THAN });
  if (users > 0) log.info({ feeds: users, rows: items }, 'long feeds trimmed');
}
