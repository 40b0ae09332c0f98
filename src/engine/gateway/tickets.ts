import { createHash, randomBytes } from 'node:crypto';
import type { Queryable } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { insertTicket, removeTicket } from '../store/tickets.ts';
import { getUser } from '../store/users.ts';

/** From the answer to the opening of a WebSocket, at any gateway. */
const TICKET_SECONDS = 30;

/** What is stored opens nothing. */
const hashOf = (ticket: string): Buffer => createHash('sha256').update(ticket).digest();

/** A ticket that opens one WebSocket as that user: unlike a token it may be seen in a log. Throws USER_NOT_FOUND. */
export async function issueTicket(
  db: Queryable,
  userId: number,
): Promise<{ ticket: string; expiresIn: number }> {
  // A token outlives its user, of whom nothing is to be left.
  await getUser(db, userId);
  const ticket = randomBytes(24).toString('base64url');
  await insertTicket(db, { hash: hashOf(ticket), userId, seconds: TICKET_SECONDS });
  return { ticket, expiresIn: TICKET_SECONDS };
}

/** The user a ticket was issued to; the ticket is worth nothing after that. Throws INVALID_TOKEN. */
export async function takeTicket(db: Queryable, ticket: string): Promise<number> {
  const userId = await removeTicket(db, hashOf(ticket));
  if (userId === undefined) throw new FeedctlError('INVALID_TOKEN', 'the ticket is unknown, used or expired');
  return userId;
}
