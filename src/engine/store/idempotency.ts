import type { Queryable } from '../database/types.ts';

/** A repeated request after this time creates another post. */
const KEEP_HOURS = 24;

/** Returns the post that was created with this key, deleted or not. */
export async function postOfKey(
  db: Queryable,
  authorId: number,
  key: string,
): Promise<{ id: number; createdAt: Date; textHash: Buffer } | undefined> {
  const { rows } = await db.query<{ id: number; createdAt: Date; textHash: Buffer }>(
    `select p.id, p.created_at as "createdAt", k.text_hash as "textHash"
     from idempotency_keys k join posts p on p.author_id = k.author_id and p.id = k.post_id
     where k.author_id = $1 and k.key = $2`,
    [authorId, key],
  );
  return rows[0];
}

export async function forgetOldIdempotencyKeys(db: Queryable): Promise<void> {
  await db.query(`delete from idempotency_keys where created_at < now() - ${KEEP_HOURS} * interval '1 hour'`);
}
