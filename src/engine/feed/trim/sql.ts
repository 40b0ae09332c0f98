import type { Queryable, Session } from '../../database/types.ts';

/** Users with more than n rows, in rising order, after a user. One pass over the index. */
export async function longFeeds(
  db: Queryable,
  longerThan: number,
  after: number,
  limit: number,
): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `select user_id as id from feed_items where user_id > $1
     group by user_id having count(*) > $2 order by user_id limit $3`,
    [after, longerThan, limit],
  );
  return rows.map((row) => row.id);
}

/** In: users, n. The floor rises to the newest row that is not kept; it never falls. */
const RAISE = `
  update users u set feed_floor = greatest(u.feed_floor, (
    select post_id from feed_items i where i.user_id = u.id and i.user_id = any($1)
    order by post_id desc offset $2 limit 1))
  where u.id = any($1)`;

const REMOVE = `
  delete from feed_items i using users u
  where u.id = any($1) and i.user_id = u.id and i.user_id = any($1) and i.post_id <= u.feed_floor`;

/**
 * Keeps the newest n rows of some feeds of one shard, inside the caller's transaction: the floor is raised before rows go, so a
 * reader finds what is gone in the posts themselves. Returns the rows removed.
 */
export async function trimFeeds(session: Session, userIds: readonly number[], keep: number): Promise<number> {
  await session.query('select 1 from users where id = any($1) order by id for update', [userIds]);
  await session.query(RAISE, [userIds, keep]);
  const { rowCount } = await session.query(REMOVE, [userIds]);
  return rowCount ?? 0;
}
