import type { Bus } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import { decodeMessage, type Message } from '../model/decodeMessage.ts';
import type { EventRef } from '../model/event.ts';
import {
  encodeCleanup,
  encodeEvents,
  encodeLive,
  type LiveRecord,
  type PendingCleanup,
  packIds,
} from '../model/messages.ts';
import { rowsWithout } from '../model/rowsMessage.ts';
import { deadLettersAfter, replaceDeadLetter, waitingBodies } from '../store/deadLetters.ts';
import type { Residue } from './residue.ts';

/** Messages read from the database at a time. */
const BATCH = 100;

/**
 * Returns a message without the user: the same Buffer if it does not name the user, undefined if
 * nothing else is in it. A message that cannot be read is dropped if it contains the bytes of the id.
 */
export function messageWithout(body: Buffer, userId: number): Buffer | undefined {
  let message: Message;
  try {
    message = decodeMessage(body);
  } catch {
    return body.includes(packIds([userId])) ? undefined : body;
  }
  switch (message.kind) {
    case 'events': {
      const { header, events } = message;
      return reduced(body, events, isEventOfOthers(userId), (left) => encodeEvents(header, left));
    }
    case 'rows': {
      const left = rowsWithout(body, userId);
      return left?.equals(body) ? body : left;
    }
    case 'live': {
      const { header, posts } = message;
      return reduced(body, posts, isPostOfOthers(userId), (left) => encodeLive(header, left));
    }
    case 'cleanup': {
      const { cleanup } = message;
      return reduced(body, cleanup.what, isCleanupOfOthers(userId), (what) =>
        encodeCleanup({ ...cleanup, what }),
      );
    }
  }
}

/** Returns the message with the records that stay. */
function reduced<T>(
  body: Buffer,
  records: readonly T[],
  stays: (record: T) => boolean,
  encode: (records: readonly T[]) => Buffer,
): Buffer | undefined {
  const left = records.filter(stays);
  if (left.length === records.length) return body;
  return left.length > 0 ? encode(left) : undefined;
}

/** The subject of a follow is a user, that of a post is a post. */
const isEventOfOthers =
  (userId: number) =>
  ({ type, aggregateId, subjectId }: EventRef): boolean =>
    aggregateId !== userId && !(type.startsWith('follow.') && subjectId === userId);

const isPostOfOthers =
  (userId: number) =>
  (record: LiveRecord): boolean =>
    record.userId !== userId && record.authorId !== userId;

const isCleanupOfOthers =
  (userId: number) =>
  (rows: PendingCleanup): boolean =>
    'pair' in rows
      ? rows.pair.followerId !== userId && rows.pair.followeeId !== userId
      : rows.post.authorId !== userId;

/** Removes the user from dead letters, whose replay would restore rows. Returns how many were changed. */
export async function eraseFromDeadLetters(db: Database, bus: Bus, userId: number): Promise<number> {
  await bus.collectDeadLetters?.();
  let changed = 0;
  for (let after = 0; ; ) {
    const letters = await deadLettersAfter(db, after, BATCH);
    if (letters.length === 0) return changed;
    for (const { id, body } of letters) {
      const left = messageWithout(body, userId);
      if (left === body) continue;
      await replaceDeadLetter(db, id, left);
      changed += 1;
    }
    after = letters.at(-1)!.id;
  }
}

/** Finds messages that name the user: dead letters, and waiting messages of the bus in PostgreSQL. */
export async function residueInMessages(db: Database, userId: number): Promise<Residue[]> {
  const counts = { 'bus.messages': 0, 'bus.dead_letters': 0 };
  for (let after = 0; ; ) {
    const letters = await deadLettersAfter(db, after, BATCH);
    if (letters.length === 0) break;
    for (const { body } of letters)
      if (messageWithout(body, userId) !== body) counts['bus.dead_letters'] += 1;
    after = letters.at(-1)!.id;
  }
  for (let after = 0; ; ) {
    const bodies = await waitingBodies(db, after, BATCH);
    if (bodies.length === 0) break;
    for (const { body } of bodies) if (messageWithout(body, userId) !== body) counts['bus.messages'] += 1;
    after = bodies.at(-1)!.id;
  }
  return Object.entries(counts).flatMap(([where, count]) => (count > 0 ? [{ where, count }] : []));
}
