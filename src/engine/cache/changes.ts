import type { Database, Queryable } from '../database/database.ts';
import type { FeedEntry } from '../model/feed.ts';
import type { Post } from '../model/post.ts';

/**
 * Reports changes to the cache. Gerunds (`changing`, `writing`, `resetting`) run inside the
 * transaction that makes the change; `forget`, `push` and the past tenses (`posted`, `edited`,
 * `deleted`, `erased`) run after its commit and before the change is acknowledged. A writer calls
 * both halves of its pair; a driver does its work in one of them. None fails while the cache is
 * down.
 */
export interface FeedChanges {
  readonly kind: string;
  /** In the transaction that changes these feeds. Its other half is `forget`. */
  changing(session: Queryable, userIds: Iterable<number>): Promise<void>;
  /** After the commit: the next read of these feeds goes to the store. */
  forget(userIds: readonly number[]): Promise<void>;
  /** In a transaction that changes very many feeds: its commit invalidates the whole cache. */
  resetting(session: Queryable): Promise<void>;
  /** In the transaction that writes rows, which are in COPY format. Its other half is `push`. */
  writing(session: Queryable, rows: readonly Buffer[]): Promise<void>;
  /** After the commit: adds the rows to the feeds that are cached. */
  push(rows: readonly Buffer[]): Promise<void>;
  /** After the commit: adds new posts to their authors' own posts. */
  posted(posts: readonly FeedEntry[]): Promise<void>;
  /** After the commit: a post has another text. `load` reads it; undefined for a deleted post. */
  edited(post: FeedEntry, load: () => Promise<Post | undefined>): Promise<void>;
  /** After the commit: a post is deleted. */
  deleted(post: FeedEntry): Promise<void>;
  /** After the commit: removes a user's values and values that name them. Scans the whole cache. */
  erased(userId: number): Promise<void>;
}

/** Invalidates these feeds in every cache, after a change that is already committed. */
export async function markStale(
  { db, changes }: { db: Database; changes: FeedChanges },
  userIds: readonly number[],
): Promise<void> {
  await db.transaction((session) => changes.changing(session, userIds));
  await changes.forget(userIds);
}
