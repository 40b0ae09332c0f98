import type { Database } from '../database/database.ts';
import { ensureFeedPartitions } from '../database/feedPartitions.ts';
import type { LockWait } from '../database/shortLocks.ts';
import { ensureEventPartitions } from './events.ts';

/** Makes partitions of events and feed rows ahead of `nowMs`. Throws SCHEMA_LOCKED after `wait`. */
export async function ensurePartitions(db: Database, nowMs: number, wait: LockWait = {}): Promise<void> {
  await ensureEventPartitions(db, nowMs, wait);
  await ensureFeedPartitions(db, nowMs, wait);
}
