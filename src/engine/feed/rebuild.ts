import type { FeedChanges } from '../cache/changes.ts';
import { notifiedChanges } from '../cache/invalidation.ts';
import { FeedctlError } from '../model/errors.ts';
import type { Database, Session } from '../store/database.ts';
import { rebuildFeeds } from '../store/rebuild.ts';
import { repeatedTransaction } from '../store/steps.ts';
import { getUser, userIdsAfter } from '../store/users.ts';

const USERS_A_TRANSACTION = 200;

export interface RebuildResult {
  readonly users: number;
  /** Rows that the rebuilt feeds hold. */
  readonly items: number;
  readonly seconds: number;
}

/**
 * Makes feeds equal to the truth again: the newest 1,000 posts of those followed, with the floor below them. A
 * reader never sees an emptied feed: what is missing is added before what is wrong is removed, in one transaction.
 * `userId` undefined: every user. Throws USER_NOT_FOUND, or INTERRUPTED with what was done so far.
 */
export async function rebuild(
  db: Database,
  userId: number | undefined,
  options: {
    changes?: FeedChanges;
    dryRun?: boolean;
    signal?: AbortSignal;
    onProgress?: (users: number, items: number) => void;
  } = {},
): Promise<RebuildResult> {
  const startedAt = performance.now();
  const { changes = notifiedChanges } = options;
  let users = 0;
  let items = 0;
  const topology = await db.topology();
  const chunk = async (ids: number[]) => {
    const work = async (session: Session) => {
      const rows = await rebuildFeeds(session, ids, topology.distributed);
      await changes.changing(session, ids);
      return rows;
    };
    items += await (options.dryRun ? db.rehearse(work) : repeatedTransaction(db, work));
    if (!options.dryRun) await changes.forget(ids);
    users += ids.length;
    options.onProgress?.(users, items);
  };
  if (userId !== undefined) {
    await getUser(db, userId);
    await chunk([userId]);
  } else {
    const usersAtATime = USERS_A_TRANSACTION * Math.max(1, topology.shards.length);
    for (let after = 0; ; ) {
      const ids = await userIdsAfter(db, after, usersAtATime);
      if (ids.length === 0) break;
      if (options.signal?.aborted) {
        throw new FeedctlError(
          'INTERRUPTED',
          `the rebuild was interrupted after ${users} users; their feeds are done`,
        );
      }
      for (const group of topology.group(ids, (id) => id)) await chunk(group);
      after = ids.at(-1)!;
    }
  }
  return { users, items, seconds: (performance.now() - startedAt) / 1000 };
}
