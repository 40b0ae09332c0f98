import type { Database } from '../../database/database.ts';
import {
  dropFeedPartitionsBefore,
  type FeedPartition,
  feedPartitionSizes,
  feedPartitions,
} from '../../database/feedPartitions.ts';
import { FeedctlError } from '../../model/errors.ts';
import { firstIdAt } from '../../model/ids.ts';
import { runOperation, saveProgress } from '../../operations/run.ts';
import type { TrimAllOptions } from './operation.ts';
import { raiseFloors } from './sql.ts';
import type { TrimResult } from './trim.ts';

/** Users whose floors one statement raises: about 30 ms. */
const USERS_A_STATEMENT = 5_000;

export interface RetireOptions extends Omit<TrimAllOptions, 'keep'> {
  /** Partitions with posts before this time only are removed, in unix milliseconds. */
  readonly beforeMs: number;
}

export interface RetireResult extends TrimResult {
  /** Names of the removed partitions. The first one stays, without rows. */
  readonly partitions: readonly string[];
}

interface Progress {
  /** Floors of users up to and including this one are raised. */
  readonly after: number;
  readonly users: number;
}

/**
 * Removes the rows of old posts by whole partitions, which costs the same for any number of rows and leaves
 * no dead ones. Readers then find those posts at their authors.
 *
 * It raises the floors of the feeds first, a few at a time, while the rows are still there. A feed that gets
 * a lower floor meanwhile, by a rebuild or because its user is new, is raised again under the lock that
 * removes the rows. So no reader finds a floor whose rows are missing. The counts of rows are estimates.
 * Throws SCHEMA_LOCKED, OPERATION_RUNNING, OPERATION_CANCELLED or INTERRUPTED.
 */
export async function retire(
  db: Database,
  { onResume, signal, ...options }: RetireOptions,
): Promise<RetireResult> {
  const startedAt = performance.now();
  const { partitions, items } = await oldPartitions(db, options.beforeMs);
  const cut = partitions.at(-1)?.to ?? 0;
  const names = partitions.map(({ name }) => name);
  const result = (users: number) => ({
    users,
    items,
    partitions: names,
    seconds: (performance.now() - startedAt) / 1000,
  });
  if (options.dryRun || !(await hasRowsBefore(db, cut))) return result(0);
  const work = { kind: 'retire', key: `rows before post ${cut}`, signal, onResume };
  return runOperation<Progress, RetireResult>(db, work, async ({ id, progress, signal: stop }) => {
    let { after, users } = progress ?? { after: 0, users: 0 };
    for (;;) {
      if (stop.aborted)
        throw new FeedctlError('INTERRUPTED', `interrupted after ${users} feeds; no row was removed`);
      const raised = await raiseFloors(db, { cut, after, limit: USERS_A_STATEMENT });
      if (raised.last === null) break;
      after = raised.last;
      users += raised.users;
      options.onProgress?.(users, items);
      await saveProgress(db, id, { after, users }, { done: users, unit: 'feeds' });
    }
    users += await dropFeedPartitionsBefore(db, cut);
    return result(users);
  });
}

/** The estimate of the rows may be 0 although there are some. */
async function hasRowsBefore(db: Database, cut: number): Promise<boolean> {
  return (await db.query('select 1 from feed_items where post_id < $1 limit 1', [cut])).rowCount === 1;
}

/** Returns the partitions whose posts are all older, and an estimate of their rows. */
async function oldPartitions(
  db: Database,
  beforeMs: number,
): Promise<{ partitions: FeedPartition[]; items: number }> {
  const before = firstIdAt(Math.floor(beforeMs));
  const partitions = (await feedPartitions(db)).filter(({ to }) => to <= before);
  const sizes = await feedPartitionSizes(db);
  const items = partitions.reduce((sum, { name }) => sum + (sizes.get(name)?.rows ?? 0), 0);
  return { partitions, items };
}
