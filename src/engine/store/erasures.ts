import type { Queryable } from '../database/types.ts';

/** Kind of the operation that erases a user. Its key is the user's id. */
export const ERASE_KIND = 'user erase';

/** An erasure that has removed the row of its user. */
export interface Erasure {
  readonly userId: number;
  readonly startedAt: Date;
}

/** In: kind, seconds. Erasures that are not done, and those that ended within these seconds. */
const RECENT = `
  select id, key::bigint as "userId", started_at as "startedAt", state = 'done' as done,
    coalesce(progress->'steps' @> '["user"]', false) as removed
  from operations
  where kind = $1 and (finished_at is null or finished_at > now() - $2 * interval '1 s')`;

type Row = Erasure & { readonly id: number; readonly done: boolean; readonly removed: boolean };

/**
 * Returns recent erasures with an operation above `mark`, and the mark for the next call: every
 * operation up to it is done. A call reads only the operations since the last one.
 */
export async function readErasures(
  db: Queryable,
  seconds: number,
  mark: number,
): Promise<{ erasures: Erasure[]; mark: number }> {
  const { rows } = await db.query<Row>(`${RECENT} and id > $3 order by id`, [ERASE_KIND, seconds, mark]);
  const open = rows.find(({ done }) => !done);
  const next = open ? open.id - 1 : (rows.at(-1)?.id ?? mark);
  return { erasures: rows.filter(({ removed }) => removed), mark: next };
}

/** Returns the recent erasures of one user. */
export async function erasuresOf(db: Queryable, seconds: number, userId: number): Promise<Erasure[]> {
  const { rows } = await db.query<Row>(`${RECENT} and key = $3`, [ERASE_KIND, seconds, String(userId)]);
  return rows.filter(({ removed }) => removed);
}
