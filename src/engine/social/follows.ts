import { FeedctlError } from '../model/errors.ts';
import type { EventType } from '../model/event.ts';
import { checkPair, deleteFollow, insertFollow, type Pair } from '../store/follows.ts';
import { missingUsers } from '../store/users.ts';
import { commit, dispatchCommitted, type SocialContext } from './context.ts';

/**
 * Idempotent. Returns true if the follow is new, or would be in a dry run. Throws SELF_FOLLOW or
 * USER_NOT_FOUND.
 */
export const follow = (
  context: SocialContext,
  pair: Pair,
  options: { dryRun?: boolean } = {},
): Promise<boolean> => change(context, pair, insertFollow, 'follow.created', options);

/** As `follow`. After it resolves no socket of the follower gets a post of the followee. */
export const unfollow = (
  context: SocialContext,
  pair: Pair,
  options: { dryRun?: boolean } = {},
): Promise<boolean> => change(context, pair, deleteFollow, 'follow.deleted', options);

async function change(
  context: SocialContext,
  pair: Pair,
  write: typeof insertFollow,
  type: EventType,
  options: { dryRun?: boolean },
): Promise<boolean> {
  checkPair(pair);
  const missing = await context.db.retry(() => missingUsers(context.db, [pair.followerId, pair.followeeId]));
  if (missing.length > 0)
    throw new FeedctlError('USER_NOT_FOUND', `there is no user ${missing.join(', nor ')}`);
  const id = await context.db.retry(() => context.ids.next());
  if (options.dryRun) return context.db.rehearse((session) => write(session, pair, { id }));
  const event = { id, type, aggregateId: pair.followerId, subjectId: pair.followeeId };
  // After a try whose answer was lost the retry changes nothing. The sweeper publishes the event if that
  // try has not.
  const { result: changed, dispatched } = await context.db.retry(() =>
    commit(
      context,
      event,
      (db, dispatched) => write(db, pair, { id, dispatched }),
      (changed) => changed,
    ),
  );
  await Promise.all([
    changed && !dispatched && dispatchCommitted(context, [event]),
    // Invalidated even without a change: an earlier call may have died before it invalidated the
    // cached feed.
    context.changes.forget([pair.followerId]),
    type === 'follow.deleted' && context.unfollows.waitForGateways(pair.followerId),
  ]);
  return changed;
}
