import type { Queryable } from '../../database/types.ts';

/** Users above `after`, up to and including `last`. */
export interface UserRange {
  readonly after: number;
  readonly last: number;
  /** Number of users. */
  readonly users: number;
}

/** Splits all users in ranges of about `size` users each. */
export async function userRanges(db: Queryable, size: number): Promise<UserRange[]> {
  const { rows } = await db.query<{ last: number; users: number }>(
    `select max(id) as last, count(*)::integer as users
     from (select id, (row_number() over (order by id) - 1) / $1 as range from users) numbered
     group by range order by 1`,
    [size],
  );
  return rows.map((row, i) => ({ after: rows[i - 1]?.last ?? 0, last: row.last, users: row.users }));
}
