import type { FeedChanges } from '../cache/changes.ts';
import type { Database } from '../database/database.ts';
import { syncFollower } from '../feed/syncFollower.ts';
import type { Notifier } from '../live/notifier.ts';
import { FEED_LIMIT, type FeedEntry } from '../model/feed.ts';
import type { MessageHeader, PendingCleanup } from '../model/messages.ts';
import type { Clock } from '../store/databaseClock.ts';
import { removePostItems } from '../store/feeds.ts';
import { type Pair, postsSinceFollow } from '../store/follows.ts';
import { findPost } from '../store/posts.ts';

export interface FollowContext {
  readonly db: Database;
  readonly changes: FeedChanges;
}

/** Follows and deletions also notify sockets. */
export interface LiveContext extends FollowContext {
  readonly clock: Clock;
  readonly notifier: Notifier;
}

/** Handles a follow or an unfollow: updates the feed and `followers`, then notifies sockets. */
async function followChanged(context: LiveContext, pair: Pair): Promise<PendingCleanup | undefined> {
  const follows = await syncFollower(context, pair);
  if (!follows) return { pair };
  // Posts since the follow may have been planned without it. The backfill has put them into the
  // feed, but no writer notifies the sockets. Posts that a writer handles too are sent once: a
  // session remembers its posts.
  const posts = await postsSinceFollow(context.db, pair, FEED_LIMIT);
  await context.notifier.toUser(pair.followerId, posts, { importId: 0, committedAt: context.clock.now() });
  return undefined;
}

async function postDeleted(context: LiveContext, post: FeedEntry): Promise<PendingCleanup> {
  await context.changes.deleted(post);
  await context.notifier.retracted(post, { importId: 0, committedAt: context.clock.now() });
  await removePostItems(context.db, post);
  return { post };
}

/** Handles edits: caches first, so that a client that reads after a frame reads that text. */
async function postsUpdated(
  context: LiveContext,
  posts: readonly FeedEntry[],
  header: MessageHeader,
): Promise<void> {
  for (const post of posts) await context.changes.edited(post, () => findPost(context.db, post));
  await context.notifier.edited(posts, header);
}

/** Handlers of the planner for events other than new posts. They return the pending cleanup. */
export interface FollowHandlers {
  followChanged(context: LiveContext, pair: Pair): Promise<PendingCleanup | undefined>;
  postDeleted(context: LiveContext, post: FeedEntry): Promise<PendingCleanup | undefined>;
  postsUpdated(context: LiveContext, posts: readonly FeedEntry[], header: MessageHeader): Promise<void>;
}

export const followHandlers: FollowHandlers = { followChanged, postDeleted, postsUpdated };
