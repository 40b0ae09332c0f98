import type { Queryable, Session } from '../../database/types.ts';
import type { FeedEntry } from '../../model/feed.ts';
import { itemsOf, truthOf } from '../../store/citusFeeds.ts';
import { insertFeedRows } from '../../store/feeds.ts';
import { followingPairs } from '../../store/follows.ts';
import type { FeedsRebuilt } from './postgres.ts';

/** In: users of one shard, floors. */
const SET_FLOORS = `
  update users u set feed_floor = f.floor from unnest($1::bigint[], $2::bigint[]) f(id, floor)
  where u.id = f.id and u.id = any($1) and u.feed_floor <> f.floor returning u.id`;

/** In: users of one shard, posts. */
const REMOVE = `
  delete from feed_items i using unnest($1::bigint[], $2::bigint[]) d(user_id, post_id)
  where i.user_id = d.user_id and i.post_id = d.post_id and i.user_id = any($1)`;

/** In: authors, posts. Those that are there and pushed. */
const ALIVE = `
  select p.id from unnest($1::bigint[], $2::bigint[]) r(author_id, post_id)
  join posts p on p.author_id = r.author_id and p.id = r.post_id and p.deleted_at is null
  join users a on a.id = p.author_id and a.push_state <> 'pull'
  where p.author_id = any($1)`;

interface Row extends FeedEntry {
  readonly userId: number;
}

/**
 * `rebuildFeeds` on Citus, for users of one shard: the truth is gathered from all shards, then the rows and the
 * floors of these users change in their shard alone. In the caller's transaction, which holds the push states and the
 * users' rows. Between reading and writing, follows and posts go on: what is new by then has a handler or a plan
 * that comes after; what ends meanwhile is removed by a cleanup, which waits for fills like this one (`fillsEnded`).
 */
export async function rebuildShardFeeds(
  session: Session,
  userIds: readonly number[],
  limit: number,
): Promise<FeedsRebuilt> {
  // One connection a node: posts are asked for in every shard, and several a node only wait for each other.
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
  const gone = await unwanted(session, extra, floorOf);
  await remove(session, gone);
  const changed = new Set([...missing, ...gone].map((row) => row.userId));
  for (const { id } of floored.rows) changed.add(id);
  return { items, added: missing.length, removed: gone.length, changed: [...changed] };
}

/**
 * What no reader would be shown: at and below the floor, of strangers, celebrities, deleted posts. A row that fan-out
 * wrote since the truth was read is none of these.
 */
async function unwanted(
  session: Queryable,
  extra: readonly Row[],
  floorOf: (userId: number) => number,
): Promise<Row[]> {
  const above = extra.filter((row) => row.postId > floorOf(row.userId));
  if (above.length === 0) return [...extra];
  const alive = await session.query<{ id: number }>(ALIVE, [
    above.map((row) => row.authorId),
    above.map((row) => row.postId),
  ]);
  const ids = new Set(alive.rows.map((row) => row.id));
  const pairs = above.map((row) => ({ followerId: row.userId, followeeId: row.authorId, row }));
  const followed = await followingPairs(session, pairs);
  const kept = new Set(followed.map(({ row }) => row).filter((row) => ids.has(row.postId)));
  return extra.filter((row) => !kept.has(row));
}

async function remove(session: Session, rows: readonly Row[]): Promise<void> {
  if (rows.length === 0) return;
  await session.query(REMOVE, [rows.map((row) => row.userId), rows.map((row) => row.postId)]);
}
