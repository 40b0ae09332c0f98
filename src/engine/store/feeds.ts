import type { Database, Store } from '../database/database.ts';
import type { Queryable, Session } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';
import { FEED_LIMIT, type FeedEntry } from '../model/feed.ts';
import { readIds } from '../model/messages.ts';
import { runConcurrently } from '../util/parallel.ts';
import { followersAfter } from './celebrities.ts';
import type { Pair } from './follows.ts';

/** Returns no ids for null, which an aggregate of no rows is. */
const idsOf = (bytes: Buffer | null): number[] => (bytes ? readIds(bytes) : []);

/**
 * Returns the newest rows of a feed, its floor, and its authors, in one statement and so one
 * snapshot. In: user, limit, limit of the user's own posts. Entries are bytes: decoding a thousand
 * rows takes the driver three times as long as the server needs.
 */
const LOAD = `
  select u.feed_floor as floor,
         (select string_agg(int8send(post_id) || int8send(author_id), '' order by post_id desc) from (
            select i.post_id, i.author_id from feed_items i
            join follows f on f.follower_id = $1 and f.followee_id = i.author_id
            where i.user_id = $1 and i.post_id > u.feed_floor
            order by i.post_id desc limit $2) newest) as entries,
         (select string_agg(int8send(followee_id), '' order by followee_id)
          from follows where follower_id = $1) as followees,
         (select string_agg(int8send(f.followee_id), '' order by f.followee_id)
          from follows f join celebrities c on c.user_id = f.followee_id
          where f.follower_id = $1) as celebrities,
         (select string_agg(int8send(id), '' order by id) from (
            select id from posts where author_id = $1 and deleted_at is null
            order by id desc limit $3) newest) as own
  from users u where u.id = $1`;

/** Throws USER_NOT_FOUND. */
export async function loadFeed(
  db: Store,
  userId: number,
  limits: { entries: number; own: number },
): Promise<{
  floor: number;
  entries: FeedEntry[];
  followees: number[];
  celebrities: number[];
  own: number[];
}> {
  const { rows } = await db.query<{
    floor: number;
    entries: Buffer | null;
    followees: Buffer | null;
    celebrities: Buffer | null;
    own: Buffer | null;
  }>(LOAD, [userId, limits.entries, limits.own], 'load_feed');
  const row = rows[0];
  if (!row) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${userId}`);
  const flat = idsOf(row.entries);
  const entries = Array.from({ length: flat.length / 2 }, (_, i) => ({
    postId: flat[2 * i]!,
    authorId: flat[2 * i + 1]!,
  }));
  return {
    floor: row.floor,
    entries,
    followees: idsOf(row.followees),
    celebrities: idsOf(row.celebrities),
    own: idsOf(row.own),
  };
}

/**
 * Adds rows to a feed. In: follower, followee, post ids. Citus finds the shard by the join with
 * `users`.
 */
const ADD_POSTS = `
  insert into feed_items (user_id, post_id, author_id)
  select u.id, n.id, $2::bigint from users u cross join unnest($3::bigint[]) n(id)
  where u.id = $1 on conflict do nothing`;

/**
 * Returns the newest posts above an id, of a pushed author. Returns none for others. In: author,
 * id, limit.
 */
const NEWEST_PUSHED = `
  select p.id from users a cross join lateral (
    select id from posts where author_id = $1 and author_id = a.id and id > $2 and deleted_at is null
    order by id desc limit $3) p
  where a.id = $1 and a.push_state <> 'pull'`;

/**
 * Copies the followee's posts above the floor of the follower's feed. If there are more than the
 * limit, it copies the newest and raises the floor to the first that is not copied.
 *
 * The transaction locks the user's row against a concurrent trim or rebuild, so the floor stays as
 * it was read. A post that is created after the read has been planned with the follower, whose row
 * in `followers` is committed.
 */
export async function backfillPair(session: Session, pair: Pair): Promise<number> {
  const { followerId, followeeId } = pair;
  await session.query('begin');
  try {
    const user = await session.query<{ floor: number }>(
      'select feed_floor as floor from users where id = $1 for update',
      [followerId],
    );
    const copied = user.rows[0] ? await copyPosts(session, pair, user.rows[0].floor) : 0;
    await removeDeleted(session, followerId, followeeId);
    await session.query('commit');
    return copied;
  } catch (error) {
    await session.query('rollback').catch(() => {});
    throw error;
  }
}

async function copyPosts(session: Session, { followerId, followeeId }: Pair, floor: number): Promise<number> {
  const { rows } = await session.query<{ id: number }>(NEWEST_PUSHED, [followeeId, floor, FEED_LIMIT + 1]);
  if (rows.length === 0) return 0;
  if (rows.length > FEED_LIMIT)
    await session.query('update users set feed_floor = $2 where id = $1', [followerId, rows[FEED_LIMIT]!.id]);
  const ids = rows.slice(0, FEED_LIMIT).map((row) => row.id);
  return (await session.query(ADD_POSTS, [followerId, followeeId, ids])).rowCount ?? 0;
}

/**
 * Removes rows of posts that were deleted between an unfollow and a new follow. The deletion found
 * no follower here, and the unfollow left the rows because it saw the new follow.
 */
async function removeDeleted(session: Session, userId: number, authorId: number): Promise<void> {
  const rows = await session.query<{ id: number }>(
    'select post_id as id from feed_items where user_id = $1 and author_id = $2',
    [userId, authorId],
  );
  if (rows.rows.length === 0) return;
  const deleted = await session.query<{ id: number }>(
    'select id from posts where author_id = $1 and id = any($2) and deleted_at is not null',
    [authorId, rows.rows.map((row) => row.id)],
  );
  if (deleted.rows.length === 0) return;
  await session.query('delete from feed_items where user_id = $1 and post_id = any($2)', [
    userId,
    deleted.rows.map((row) => row.id),
  ]);
}

/** Removes a followee's rows from a feed, unless the pair follows again. */
export async function removePairItems(db: Queryable, pair: Pair): Promise<number> {
  const { rowCount } = await db.query(
    `delete from feed_items where user_id = $1 and author_id = $2
     and not exists (select from follows where follower_id = $1 and followee_id = $2)`,
    [pair.followerId, pair.followeeId],
  );
  return rowCount ?? 0;
}

/** Followers per round of deletions. */
const FOLLOWERS_PER_ROUND = 20_000;
/** Shards that are written concurrently. */
const CONCURRENCY = 4;

/** Removes the rows of a deleted post from the feeds of its author's followers. */
export async function removePostItems(
  db: Database,
  post: { authorId: number; postId: number },
): Promise<number> {
  const { rowCount } = await db.query(
    'select 1 from posts where author_id = $1 and id = $2 and deleted_at is not null',
    [post.authorId, post.postId],
  );
  if (rowCount === 0) return 0;
  const sharding = await db.sharding();
  let removed = 0;
  for (let after = 0; ; ) {
    const followers = await followersAfter(db, post.authorId, after, FOLLOWERS_PER_ROUND);
    const counts = await runConcurrently(
      sharding.group(followers, (id) => id),
      CONCURRENCY,
      (group) =>
        db.query('delete from feed_items where user_id = any($1) and post_id = $2', [group, post.postId]),
    );
    for (const { rowCount } of counts) removed += rowCount ?? 0;
    if (followers.length < FOLLOWERS_PER_ROUND) return removed;
    after = followers.at(-1)!;
  }
}

const INSERT_ROWS = `
  insert into feed_items (user_id, post_id, author_id)
  select * from unnest($1::bigint[], $2::bigint[], $3::bigint[]) order by 1, 2 on conflict do nothing`;

/**
 * Inserts rows of one shard on Citus. The join with `users` names the shard, which then does all
 * the work.
 */
const INSERT_SHARD_ROWS = `
  insert into feed_items (user_id, post_id, author_id)
  select u.id, r.post_id, r.author_id
  from users u
  join unnest($1::bigint[], $2::bigint[], $3::bigint[]) r(user_id, post_id, author_id) on r.user_id = u.id
  where u.id = any($1) order by 1, 2 on conflict do nothing`;

/**
 * Inserts rows, some of which may exist. On Citus they belong to one shard. The rows are sorted, so
 * that two concurrent batches cannot deadlock. Returns the number of new rows.
 */
export async function insertFeedRows(
  session: Session,
  rows: { users: readonly number[]; posts: readonly number[]; authors: readonly number[] },
  distributed: boolean,
): Promise<number> {
  const statement = distributed ? INSERT_SHARD_ROWS : INSERT_ROWS;
  const { rowCount } = await session.query(statement, [rows.users, rows.posts, rows.authors]);
  return rowCount ?? 0;
}
