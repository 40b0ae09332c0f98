import { FeedctlError } from '../model/errors.ts';
import type { Queryable, Session } from './database.ts';

/** In: follower, followee, event id. Atomic: the follow and its event, in the follower's shard. */
const CREATE = `
  with pair as (insert into follows (follower_id, followee_id) values ($1, $2)
                on conflict do nothing returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data)
            select $3, follower_id, followee_id, 'follow.created', clock_timestamp(), '{}' from pair)
  select 1 from pair`;

const DELETE = `
  with pair as (delete from follows where follower_id = $1 and followee_id = $2 returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data)
            select $3, follower_id, followee_id, 'follow.deleted', clock_timestamp(), '{}' from pair)
  select 1 from pair`;

export interface Pair {
  readonly followerId: number;
  readonly followeeId: number;
}

/** Both return false where nothing had to change. */
export async function insertFollow(db: Queryable, pair: Pair, eventId: number): Promise<boolean> {
  const { rowCount } = await db.query(CREATE, [pair.followerId, pair.followeeId, eventId]);
  return rowCount === 1;
}

export async function deleteFollow(db: Queryable, pair: Pair, eventId: number): Promise<boolean> {
  const { rowCount } = await db.query(DELETE, [pair.followerId, pair.followeeId, eventId]);
  return rowCount === 1;
}

/** Throws SELF_FOLLOW. */
export function checkPair(pair: Pair): void {
  if (pair.followerId === pair.followeeId) {
    throw new FeedctlError('SELF_FOLLOW', `user ${pair.followerId} cannot follow themselves`);
  }
}

/**
 * One handler at a time for each pair, over several transactions: otherwise the handlers of a follow and of the
 * unfollow after it could overtake each other between reading `follows` and writing `followers`.
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
 * Copies the state that a pair has in `follows` now to `followers`, and keeps the followee's count. In: follower,
 * followee. Atomic: one statement. Returns whether the pair exists.
 */
const COPY_STATE = `
  with now_follows as (select 1 from follows where follower_id = $1 and followee_id = $2),
  added as (insert into followers (followee_id, follower_id)
            select $2, $1 from now_follows on conflict do nothing returning 1),
  removed as (delete from followers where followee_id = $2 and follower_id = $1
              and not exists (select from now_follows) returning 1),
  counted as (update users set follower_count = follower_count
                + (select count(*)::integer from added) - (select count(*)::integer from removed)
              where id = $2 and (exists (select from added) or exists (select from removed)))
  select exists (select from now_follows) as follows`;

export async function copyPairState(db: Queryable, pair: Pair): Promise<boolean> {
  const { rows } = await db.query<{ follows: boolean }>(COPY_STATE, [pair.followerId, pair.followeeId]);
  return rows[0]!.follows;
}

/** The newest posts that the followee has made since the pair began, oldest first. */
export async function postsSinceFollow(
  db: Queryable,
  pair: Pair,
  limit: number,
): Promise<{ postId: number; authorId: number }[]> {
  const { rows } = await db.query<{ postId: number; authorId: number }>(
    `select p.id as "postId", p.author_id as "authorId"
     from follows f join posts p on p.author_id = f.followee_id and p.created_at >= f.created_at
     where f.follower_id = $1 and f.followee_id = $2 and p.deleted_at is null order by p.id desc limit $3`,
    [pair.followerId, pair.followeeId, limit],
  );
  return rows.reverse();
}
