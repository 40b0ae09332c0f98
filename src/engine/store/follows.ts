import type { Queryable, Session } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';

/**
 * Inserts the follow and its event atomically, in the follower's shard. In: follower, followee,
 * event id, whether the event is dispatched.
 */
const CREATE = `
  with pair as (insert into follows (follower_id, followee_id) values ($1, $2)
                on conflict do nothing returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at)
            select $3, follower_id, followee_id, 'follow.created', clock_timestamp(), '{}',
                   case when $4 then clock_timestamp() end from pair)
  select 1 from pair`;

const DELETE = `
  with pair as (delete from follows where follower_id = $1 and followee_id = $2 returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at)
            select $3, follower_id, followee_id, 'follow.deleted', clock_timestamp(), '{}',
                   case when $4 then clock_timestamp() end from pair)
  select 1 from pair`;

export interface Pair {
  readonly followerId: number;
  readonly followeeId: number;
}

/** Returns whom a user follows, above the id `after`, in rising order. */
export async function followeesOf(
  db: Queryable,
  query: { followerId: number; after: number; limit: number },
): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `select followee_id as id from follows where follower_id = $1 and followee_id > $2
     order by followee_id limit $3`,
    [query.followerId, query.after, query.limit],
  );
  return rows.map(({ id }) => id);
}

/** Returns the pairs that follow now. On Citus the pairs may belong to several shards. */
export async function followingPairs<P extends Pair>(db: Queryable, pairs: readonly P[]): Promise<P[]> {
  const { rows } = await db.query<{ nth: number }>(
    `select r.nth::integer as nth
     from unnest($1::bigint[], $2::bigint[]) with ordinality r(user_id, author_id, nth)
     join follows f on f.follower_id = r.user_id and f.followee_id = r.author_id
     where f.follower_id = any($1)`,
    [pairs.map((pair) => pair.followerId), pairs.map((pair) => pair.followeeId)],
  );
  return rows.map(({ nth }) => pairs[nth - 1]!);
}

/** Returns the pairs that have followed at this time or later. On Citus the pairs have one follower. */
export async function followsSince(db: Queryable, pairs: readonly Pair[], since: Date): Promise<Pair[]> {
  const { rows } = await db.query<Pair & { [column: string]: unknown }>(
    `select follower_id as "followerId", followee_id as "followeeId" from follows
     where follower_id = any($1) and followee_id = any($2) and created_at >= $3`,
    [pairs.map((pair) => pair.followerId), pairs.map((pair) => pair.followeeId), since],
  );
  return rows;
}

/** Id of the event of a change. `dispatched`: the transaction publishes it too. */
interface FollowEvent {
  readonly id: number;
  readonly dispatched?: boolean;
}

/** Returns false if the pair follows already. */
export const insertFollow = (db: Queryable, pair: Pair, event: FollowEvent): Promise<boolean> =>
  changePair(db, CREATE, pair, event);

export const deleteFollow = (db: Queryable, pair: Pair, event: FollowEvent): Promise<boolean> =>
  changePair(db, DELETE, pair, event);

async function changePair(
  db: Queryable,
  statement: string,
  { followerId, followeeId }: Pair,
  { id, dispatched = false }: FollowEvent,
): Promise<boolean> {
  const { rowCount } = await db.query(statement, [followerId, followeeId, id, dispatched]);
  return rowCount === 1;
}

/** Throws SELF_FOLLOW. */
export function checkPair(pair: Pair): void {
  if (pair.followerId === pair.followeeId) {
    throw new FeedctlError('SELF_FOLLOW', `user ${pair.followerId} cannot follow themselves`);
  }
}

/**
 * Runs one handler at a time per pair, over several transactions. Otherwise the handlers of a
 * follow and of the following unfollow could overtake each other between reading `follows` and
 * writing `followers`.
 */
export async function withPairLock<T>(session: Session, pair: Pair, work: () => Promise<T>): Promise<T> {
  const key = `feedctl pair ${pair.followerId} ${pair.followeeId}`;
  await session.query('select pg_advisory_lock(hashtextextended($1, 0))', [key]);
  try {
    return await work();
  } finally {
    await session.query('select pg_advisory_unlock(hashtextextended($1, 0))', [key]).catch(() => {});
  }
}

/**
 * Inserts the row and increments the count atomically, in the followee's shard. In: follower,
 * followee.
 */
const ADD_FOLLOWER = `
  with added as (insert into followers (followee_id, follower_id) values ($2, $1)
                 on conflict do nothing returning followee_id)
  update users set follower_count = follower_count + 1
  where id = $2 and exists (select from added where followee_id = $2)`;

const REMOVE_FOLLOWER = `
  with removed as (delete from followers where followee_id = $2 and follower_id = $1 returning followee_id)
  update users set follower_count = follower_count - 1
  where id = $2 and exists (select from removed where followee_id = $2)`;

/**
 * Copies the pair's current state in `follows` to `followers`, and updates the followee's count.
 * Returns whether the pair follows. It takes two statements, because the two sides are in two
 * shards, so it needs the pair's lock. A follow or an unfollow in between has its own event, which
 * is handled later.
 */
export async function copyPairState(db: Queryable, pair: Pair): Promise<boolean> {
  const values = [pair.followerId, pair.followeeId];
  const found = await db.query('select 1 from follows where follower_id = $1 and followee_id = $2', values);
  const follows = found.rowCount === 1;
  await db.query(follows ? ADD_FOLLOWER : REMOVE_FOLLOWER, values);
  return follows;
}

/** Returns the followee's newest posts since the follow, oldest first. */
export async function postsSinceFollow(
  db: Queryable,
  pair: Pair,
  limit: number,
): Promise<{ postId: number; authorId: number }[]> {
  // Read as text, because a Date has no microseconds.
  const since = await db.query<{ since: string }>(
    'select created_at::text as since from follows where follower_id = $1 and followee_id = $2',
    [pair.followerId, pair.followeeId],
  );
  if (!since.rows[0]) return [];
  const { rows } = await db.query<{ postId: number; authorId: number }>(
    `select id as "postId", author_id as "authorId" from posts
     where author_id = $1 and created_at >= $2 and deleted_at is null order by id desc limit $3`,
    [pair.followeeId, since.rows[0].since, limit],
  );
  return rows.reverse();
}
