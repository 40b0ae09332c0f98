import type { FeedChanges } from '../cache/changes.ts';
import type { Database } from '../database/database.ts';
import { backfillPair, removePairItems } from '../store/feeds.ts';
import { copyPairState, type Pair, withPairLock } from '../store/follows.ts';

/**
 * Updates `followers` and the feed to the pair's current state in `follows`. `followers` commits
 * before the feed is filled. So every post is either planned with the new follower or part of the
 * backfill. Returns whether the pair follows.
 */
export async function syncFollower(
  { db, changes }: { db: Database; changes: FeedChanges },
  pair: Pair,
): Promise<boolean> {
  const follows = await db.withSession((session) =>
    withPairLock(session, pair, async () => {
      const follows = await copyPairState(session, pair);
      if (follows) await backfillPair(session, pair);
      else await removePairItems(session, pair);
      await changes.changing(session, [pair.followerId]);
      return follows;
    }),
  );
  await changes.forget([pair.followerId]);
  return follows;
}
