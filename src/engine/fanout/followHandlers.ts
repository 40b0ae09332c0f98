import type { FeedChanges } from '../cache/changes.ts';
import type { Database } from '../database/database.ts';
import { syncFollower } from '../feed/syncFollower.ts';
import type { Notifier } from '../live/notifier.ts';
import { FEED_LIMIT, type FeedEntry } from '../model/feed.ts';
import type { PendingCleanup } from '../model/messages.ts';
import { removePostItems } from '../store/feeds.ts';
import { type Pair, postsSinceFollow } from '../store/follows.ts';
import { findPost } from '../store/posts.ts';

export interface FollowContext {
  readonly db: Database;
  readonly changes: FeedChanges;
}

/** What a follow or a deletion needs more than its cleanup does: word to sockets. */
export interface LiveContext extends FollowContext {
  readonly notifier: Notifier;
}

/** A follow or an unfollow: the feed and `followers` follow it, then the sockets. */
async function followChanged(context: LiveContext, pair: Pair): Promise<PendingCleanup | undefined> {
  const follows = await syncFollower(context, pair);
  if (!follows) return { pair };
  // Posts made since the follow may have been planned without it: the backfill has put them into the feed, and
  // no writer will tell the sockets. Those that had a writer are sent once all the same, a socket knows what it got.
  const posts = await postsSinceFollow(context.db, pair, FEED_LIMIT);
  await context.notifier.toUser(pair.followerId, posts, { importId: 0, committedAt: Date.now() });
  return undefined;
}

async function postDeleted(context: LiveContext, post: FeedEntry): Promise<PendingCleanup> {
  await context.changes.deleted(post);
  await context.notifier.withdrawn(post, { importId: 0, committedAt: Date.now() });
  await removePostItems(context.db, post);
  return { post };
}

async function postUpdated(context: FollowContext, post: FeedEntry): Promise<void> {
  await context.changes.edited(post, () => findPost(context.db, post));
}

/** What the planner does with events that are no new posts. They return what is to be cleaned up later. */
export interface FollowHandlers {
  followChanged(context: LiveContext, pair: Pair): Promise<PendingCleanup | undefined>;
  postDeleted(context: LiveContext, post: FeedEntry): Promise<PendingCleanup | undefined>;
  postUpdated(context: FollowContext, post: FeedEntry): Promise<void>;
}

export const followHandlers: FollowHandlers = { followChanged, postDeleted, postUpdated };
