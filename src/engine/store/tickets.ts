import type { Queryable } from '../database/types.ts';

export async function insertTicket(
  db: Queryable,
  ticket: { hash: Buffer; userId: number; seconds: number },
): Promise<void> {
  await db.query(
    `insert into tickets (hash, user_id, expires_at) values ($1, $2, now() + $3 * interval '1 s')`,
    [ticket.hash, ticket.userId, ticket.seconds],
  );
}

/** Returns the user of a ticket and deletes it. A second use, at any gateway, finds no row. */
export async function removeTicket(db: Queryable, hash: Buffer): Promise<number | undefined> {
  const { rows } = await db.query<{ userId: number; valid: boolean }>(
    'delete from tickets where hash = $1 returning user_id as "userId", expires_at > now() as valid',
    [hash],
  );
  return rows[0]?.valid ? rows[0].userId : undefined;
}

export async function forgetOldTickets(db: Queryable): Promise<void> {
  await db.query('delete from tickets where expires_at < now()');
}
