import type { Queryable, Session } from '../../database/types.ts';
import { FEED_LIMIT, type FeedEntry } from '../../model/feed.ts';
import { itemsOf, truthOf } from '../../store/citusFeeds.ts';
import { insertFeedRows } from '../../store/feeds.ts';
import { followingPairs } from '../../store/follows.ts';
import { type FeedsRebuilt, lockFeeds, type RebuildVariant } from './variant.ts';

/** In: users of one shard, floors. */
const SET_FLOORS = `
  update users u set feed_floor = f.floor from unnest($1::bigint[], $2::bigint[]) f(id, floor)
  where u.id = f.id and u.id = any($1) and u.feed_floor <> f.floor returning u.id`;

/** In: users of one shard, posts. */
const REMOVE = `
  delete from feed_items i using unnest($1::bigint[], $2::bigint[]) d(user_id, post_id)
  where i.user_id = d.user_id and i.post_id = d.post_id and i.user_id = any($1)`;

/** Returns the posts that exist and whose author is pushed. In: authors, posts. */
const PUSHED = `
  select p.id from unnest($1::bigint[], $2::bigint[]) r(author_id, post_id)
  join posts p on p.author_id = r.author_id and p.id = r.post_id and p.deleted_at is null
  join users a on a.id = p.author_id and a.push_state <> 'pull'
  where p.author_id = any($1)`;

interface Row extends FeedEntry {
  readonly userId: number;
}

/**
 * Rebuilds the feeds of users of one shard. It reads the truth from all shards, then changes rows
 * and floors in the shard of these users alone. The caller's transaction holds the push states and
 * the users' rows.
 *
 * Follows and posts continue between reading and writing. A new one has a handler or a plan that
 * comes later. One that ends has a cleanup, which waits for transactions like this one
 * (`fillsEnded`).
 */
async function rebuildShard(
  session: Session,
  userIds: readonly number[],
  limit: number,
): Promise<FeedsRebuilt> {
  // One connection per node: every shard is asked for posts, and several connections to a node only
  // wait.
  await session.query('set local citus.max_adaptive_executor_pool_size = 1');
  const truth = await truthOf(session, userIds, { states: ['push', 'both'], above: 0, limit: limit + 1 });
  const actual = await itemsOf(session, userIds);
  const missing: Row[] = [];
  const extra: Row[] = [];
  const wrongAuthors: Row[] = [];
  let items = 0;
  for (const [userId, newest] of truth) {
    const authors = new Map(newest.slice(0, limit).map((entry) => [entry.postId, entry.authorId]));
    items += authors.size;
    for (const entry of actual.get(userId)!) {
      const authorId = authors.get(entry.postId);
      if (authorId === entry.authorId) authors.delete(entry.postId);
      else (authorId === undefined ? extra : wrongAuthors).push({ userId, ...entry });
    }
    for (const [postId, authorId] of authors) missing.push({ userId, postId, authorId });
  }
  const floorOf = (userId: number) => truth.get(userId)![limit]?.postId ?? 0;
  const floored = await session.query<{ id: number }>(SET_FLOORS, [userIds, userIds.map(floorOf)]);
  await remove(session, wrongAuthors);
  if (missing.length > 0) {
    const columns = {
      users: missing.map((row) => row.userId),
      posts: missing.map((row) => row.postId),
      authors: missing.map((row) => row.authorId),
    };
    await insertFeedRows(session, columns, true);
  }
  const unwanted = await unwantedOf(session, extra, floorOf);
  await remove(session, unwanted);
  const changed = new Set([...missing, ...unwanted].map((row) => row.userId));
  for (const { id } of floored.rows) changed.add(id);
  return { items, added: missing.length, removed: unwanted.length, changed: [...changed] };
}

/**
 * Returns the rows that no reader may see: at and below the floor, of unfollowed authors, of
 * celebrities, of deleted posts. Keeps rows that fan-out wrote since the truth was read.
 */
async function unwantedOf(
  session: Queryable,
  extra: readonly Row[],
  floorOf: (userId: number) => number,
): Promise<Row[]> {
  const above = extra.filter((row) => row.postId > floorOf(row.userId));
  if (above.length === 0) return [...extra];
  const pushed = await session.query<{ id: number }>(PUSHED, [
    above.map((row) => row.authorId),
    above.map((row) => row.postId),
  ]);
  const ids = new Set(pushed.rows.map((row) => row.id));
  const pairs = above.map((row) => ({ followerId: row.userId, followeeId: row.authorId, row }));
  const followed = await followingPairs(session, pairs);
  const kept = new Set(followed.map(({ row }) => row).filter((row) => ids.has(row.postId)));
  return extra.filter((row) => !kept.has(row));
}

async function remove(session: Session, rows: readonly Row[]): Promise<void> {
  if (rows.length === 0) return;
  await session.query(REMOVE, [rows.map((row) => row.userId), rows.map((row) => row.postId)]);
}

export const citusRebuild: RebuildVariant = {
  /** A read of posts asks all shards: about 100 ms for ten feeds, and twice that for a thousand. */
  chunkLimits: { idleMs: 1_000, busyMs: 300, first: 400, least: 200 },
  parts: 1,
  atomicChunks: false,

  async rebuild(session, userIds) {
    await lockFeeds(session, userIds);
    return rebuildShard(session, userIds, FEED_LIMIT);
  },

  preview(db, userIds) {
    return db.rehearse((session) => this.rebuild(session, userIds, true));
  },
};
