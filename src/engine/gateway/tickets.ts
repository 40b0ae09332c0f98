import { createHash, randomBytes } from 'node:crypto';
import type { Queryable } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { insertTicket, removeTicket } from '../store/tickets.ts';
import { getUser } from '../store/users.ts';

/** Time to open a WebSocket with a ticket, at any gateway. */
const TICKET_SECONDS = 30;

/** Only the hash is stored: a reader of the table cannot open a socket. */
const hashOf = (ticket: string): Buffer => createHash('sha256').update(ticket).digest();

/**
 * Issues a ticket that opens one WebSocket. Unlike a token it may appear in a log. Throws
 * USER_NOT_FOUND.
 */
export async function issueTicket(
  db: Queryable,
  userId: number,
): Promise<{ ticket: string; expiresIn: number }> {
  // A token outlives an erased user, for whom no row may be written.
  await getUser(db, userId);
  const ticket = randomBytes(24).toString('base64url');
  await insertTicket(db, { hash: hashOf(ticket), userId, seconds: TICKET_SECONDS });
  return { ticket, expiresIn: TICKET_SECONDS };
}

/** Returns the user of a ticket and invalidates it. Throws INVALID_TOKEN. */
export async function takeTicket(db: Queryable, ticket: string): Promise<number> {
  const userId = await removeTicket(db, hashOf(ticket));
  if (userId === undefined) throw new FeedctlError('INVALID_TOKEN', 'the ticket is unknown, used or expired');
  return userId;
}
