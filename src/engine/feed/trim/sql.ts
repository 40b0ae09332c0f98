import type { Queryable, Session } from '../../database/types.ts';

/** Returns users with more than n rows, in rising order, after a user. Reads the index once. */
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

/** Raises the floor to the newest row that is not kept. It never falls. In: users, n. */
const RAISE = `
  update users u set feed_floor = greatest(u.feed_floor, (
    select post_id from feed_items i where i.user_id = u.id and i.user_id = any($1)
    order by post_id desc offset $2 limit 1))
  where u.id = any($1)`;

const REMOVE = `
  delete from feed_items i using users u
  where u.id = any($1) and i.user_id = u.id and i.user_id = any($1) and i.post_id <= u.feed_floor`;

/**
 * Keeps the newest n rows of some feeds of one shard, inside the caller's transaction. The floor
 * rises before rows are removed, so that readers find those posts at their authors. Returns the
 * number of removed rows.
 */
export async function trimFeeds(session: Session, userIds: readonly number[], keep: number): Promise<number> {
  await session.query('select 1 from users where id = any($1) order by id for update', [userIds]);
  await session.query(RAISE, [userIds, keep]);
  const { rowCount } = await session.query(REMOVE, [userIds]);
  return rowCount ?? 0;
}

/**
 * Raises the floors of the next users by id to the last post before `cut`. Returns how many were lower, and
 * the last user that was looked at, or null if there was none.
 */
export async function raiseFloors(
  db: Queryable,
  { cut, after, limit }: { cut: number; after: number; limit: number },
): Promise<{ users: number; last: number | null }> {
  const { rows } = await db.query<{ last: number | null }>(
    'select max(id) as last from (select id from users where id > $1 order by id limit $2) next',
    [after, limit],
  );
  const last = rows[0]!.last;
  if (last === null) return { users: 0, last };
  const { rowCount } = await db.query(
    'update users set feed_floor = $1 where id > $2 and id <= $3 and feed_floor < $1',
    [cut - 1, after, last],
  );
  return { users: rowCount ?? 0, last };
}
