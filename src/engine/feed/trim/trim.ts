import type { FeedChanges } from '../../cache/changes.ts';
import { notifiedChanges } from '../../cache/invalidation.ts';
import type { Database } from '../../database/database.ts';
import { retriedTransaction } from '../../database/retriedTransaction.ts';
import type { Session } from '../../database/types.ts';
import { FeedctlError } from '../../model/errors.ts';
import { FEED_LIMIT } from '../../model/feed.ts';
import { getUser } from '../../store/users.ts';
import { longFeeds, trimFeeds } from './sql.ts';

const USERS_PER_TRANSACTION = 200;

export interface TrimResult {
  /** Feeds that were longer than the limit. */
  readonly users: number;
  /** Number of removed rows. */
  readonly items: number;
  readonly seconds: number;
}

/** Feeds of users up to and including `after` are done. */
export interface TrimProgress {
  readonly after: number;
  readonly users: number;
  readonly items: number;
}

/**
 * Limits materialized feeds to their newest `keep` rows. Older posts are then read from their
 * authors. `userId` undefined: every feed with more than `longerThan` rows. Throws USER_NOT_FOUND
 * or INTERRUPTED.
 */
export async function trim(
  db: Database,
  userId: number | undefined,
  options: {
    keep?: number;
    longerThan?: number;
    changes?: FeedChanges;
    dryRun?: boolean;
    signal?: AbortSignal;
    onProgress?: (users: number, items: number) => void;
    /** Progress of an earlier run over every feed. */
    earlier?: TrimProgress | undefined;
    /** Saves the progress after each chunk. */
    save?: (progress: TrimProgress) => Promise<void>;
  } = {},
): Promise<TrimResult> {
  const startedAt = performance.now();
  const { changes = notifiedChanges } = options;
  const keep = options.keep ?? FEED_LIMIT;
  let { after, users, items } = options.earlier ?? { after: 0, users: 0, items: 0 };
  const chunk = async (ids: number[]) => {
    const work = async (session: Session) => {
      const removed = await trimFeeds(session, ids, keep);
      await changes.changing(session, ids);
      return removed;
    };
    const removed = await (options.dryRun ? db.rehearse(work) : retriedTransaction(db, work));
    // A shared cache stays correct: rows are removed, but no post.
    items += removed;
    users += userId === undefined || removed > 0 ? ids.length : 0;
    options.onProgress?.(users, items);
  };
  if (userId !== undefined) {
    await getUser(db, userId);
    await chunk([userId]);
  } else {
    const sharding = await db.sharding();
    for (;;) {
      if (options.signal?.aborted)
        throw new FeedctlError('INTERRUPTED', `the trim was interrupted after ${users} feeds`);
      const ids = await longFeeds(db, options.longerThan ?? keep, after, USERS_PER_TRANSACTION);
      if (ids.length === 0) break;
      for (const group of sharding.group(ids, (id) => id)) await chunk(group);
      after = ids.at(-1)!;
      await options.save?.({ after, users, items });
    }
  }
  return { users, items, seconds: (performance.now() - startedAt) / 1000 };
}
