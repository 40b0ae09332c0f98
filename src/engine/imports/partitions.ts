import type { Database } from '../database/database.ts';
import { divideEmptyFeedPartition, targetPartitionRows } from '../database/feedPartitions.ts';
import { isFeedctlError, messageOf } from '../model/errors.ts';
import { firstIdAt } from '../model/ids.ts';
import type { Log } from '../telemetry/log.ts';

const HOUR_SECONDS = 3_600;
/** Maximum wait for the lock of one partition. */
const LOCKED_MS = 10_000;

/** Counts the posts of an import by hour and by author, before it begins. */
export class ImportTally {
  /** Posts by the hour of their time, in hours since 1970. */
  readonly hours = new Map<number, number>();
  readonly authors = new Map<number, number>();
  posts = 0;

  add(author: number, second: number): void {
    const hour = Math.floor(second / HOUR_SECONDS);
    this.hours.set(hour, (this.hours.get(hour) ?? 0) + 1);
    this.authors.set(author, (this.authors.get(author) ?? 0) + 1);
    this.posts += 1;
  }
}

/**
 * Makes partitions for the feed rows of an import of old posts, if they are more than one partition should
 * have. A range of time that has rows already stays as it is. A later call continues after an interruption.
 * The import needs no partitions, so a schema that stays locked is only logged. `rows`: rows that are owed.
 */
export async function partitionForImport(
  { db, log }: { db: Database; log: Log },
  { tally, rows }: { tally: ImportTally; rows: number },
  signal: AbortSignal,
): Promise<void> {
  const target = await targetPartitionRows(db);
  if (rows <= target) return;
  try {
    for (const hour of cutHours(tally, rows / target)) {
      signal.throwIfAborted();
      await divideEmptyFeedPartition(db, firstIdAt(hour * HOUR_SECONDS * 1_000), { timeoutMs: LOCKED_MS });
    }
  } catch (error) {
    if (!isFeedctlError(error, 'SCHEMA_LOCKED')) throw error;
    log.warn({ reason: messageOf(error) }, 'an import makes no partitions');
  }
}

/** Returns the hours at which partitions of about equally many posts begin, and the hour after the last. */
function cutHours({ hours, posts }: ImportTally, partitions: number): number[] {
  const rising = [...hours].sort(([a], [b]) => a - b);
  const cuts: number[] = [];
  let room = 0;
  for (const [hour, count] of rising) {
    if (count > room) {
      cuts.push(hour);
      room = posts / partitions;
    }
    room -= count;
  }
  return [...cuts, rising.at(-1)![0] + 1];
}
