import type { Database, Queryable } from '../database/database.ts';
import type { FeedEntry } from '../model/feed.ts';
import type { Post } from '../model/post.ts';

/**
 * The side of a cache that changes are told to. Whoever changes a feed calls one method inside the transaction and
 * one after its commit, before the change is acknowledged; a driver does its work in one of the two. None of them
 * fails because the cache is away.
 */
export interface FeedChanges {
  readonly kind: string;
  /** Inside the transaction that changes these feeds. */
  changing(session: Queryable, userIds: Iterable<number>): Promise<void>;
  /** After its commit: these feeds are read anew. */
  forget(userIds: readonly number[]): Promise<void>;
  /** Inside a transaction that changes very many feeds: with its commit nothing that is held counts any more. */
  resetting(session: Queryable): Promise<void>;
  /** Inside the transaction that writes rows, in COPY format. */
  writing(session: Queryable, rows: readonly Buffer[]): Promise<void>;
  /** After its commit: the rows are in the feeds that are held. */
  push(rows: readonly Buffer[]): Promise<void>;
  /** Posts that were committed are among their authors' own. */
  posted(posts: readonly FeedEntry[]): Promise<void>;
  /** A post has another text. `load`: as it is now; undefined where it is gone. */
  edited(post: FeedEntry, load: () => Promise<Post | undefined>): Promise<void>;
  deleted(post: FeedEntry): Promise<void>;
  /** Nothing of a user who was erased, nor anything that names them, is held any more. Goes through all that is held. */
  erased(userId: number): Promise<void>;
}

/** Has caches read these feeds anew, in a transaction of its own: what made them others is committed. */
export async function markStale(
  { db, changes }: { db: Database; changes: FeedChanges },
  userIds: readonly number[],
): Promise<void> {
  await db.transaction((session) => changes.changing(session, userIds));
  await changes.forget(userIds);
}
