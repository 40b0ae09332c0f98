import type { Queryable } from '../database/database.ts';

/** The users who follow the most accounts. */
export async function readersToWatch(db: Queryable, limit: number): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    'select follower_id as id from follows group by follower_id order by count(*) desc, follower_id limit $1',
    [limit],
  );
  return rows.map((row) => row.id);
}

/** The accounts that most of these users follow. */
export async function topAuthors(
  db: Queryable,
  readers: readonly number[],
  limit: number,
): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `select followee_id as id from follows where follower_id = any($1)
     group by followee_id order by count(*) desc, followee_id limit $2`,
    [readers, limit],
  );
  return rows.map((row) => row.id);
}

/** Ids of all posts that each of these users should see, by a plain join of follows and posts. */
export async function expectedPushes(
  db: Queryable,
  readers: readonly number[],
  options: { own?: boolean } = {},
): Promise<Map<number, Set<number>>> {
  const { rows } = await db.query<{ reader: number; ids: string[] }>(
    `select reader, array_agg(p.id) as ids
     from (select follower_id as reader, followee_id as author from follows where follower_id = any($1)
           union all select id, id from unnest($1::bigint[]) id where $2) seen
     join posts p on p.author_id = seen.author and p.deleted_at is null
     group by reader`,
    [readers, options.own ?? false],
  );
  return new Map(rows.map((row) => [row.reader, new Set(row.ids.map(Number))]));
}
