import type { Bus } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import {
  decodeCleanup,
  decodeEvents,
  decodeLive,
  encodeCleanup,
  encodeEvents,
  encodeLive,
  KIND,
  packIds,
} from '../model/messages.ts';
import { rowsWithout } from '../model/rowsMessage.ts';
import { deadLettersAfter, replaceDeadLetter, waitingBodies } from '../store/deadLetters.ts';
import type { Residue } from './residue.ts';

const AT_A_TIME = 100;

/**
 * A message of the bus without the user, whoever else is in it; undefined where nothing is left. One that cannot be read is
 * nothing to anybody: it goes where the bytes of the id are in it.
 */
export function messageWithout(body: Buffer, userId: number): Buffer | undefined {
  try {
    switch (body[0]) {
      case KIND.EVENTS: {
        const { events, ...header } = decodeEvents(body);
        const left = events.filter(
          ({ type, aggregateId, subjectId }) =>
            aggregateId !== userId && !(type.startsWith('follow.') && subjectId === userId),
        );
        if (left.length === events.length) return body;
        return left.length > 0 ? encodeEvents(header, left) : undefined;
      }
      case KIND.ROWS: {
        const left = rowsWithout(body, userId);
        return left?.equals(body) ? body : left;
      }
      case KIND.LIVE: {
        const { live, ...header } = decodeLive(body);
        const left = live.filter((record) => record.userId !== userId && record.authorId !== userId);
        if (left.length === live.length) return body;
        return left.length > 0 ? encodeLive(header, left) : undefined;
      }
      default: {
        const cleanup = decodeCleanup(body) as { what: Record<string, Record<string, number>>[] };
        const left = cleanup.what.filter((one) => {
          const { followerId, followeeId, authorId } = { ...one.pair, ...one.post };
          return followerId !== userId && followeeId !== userId && authorId !== userId;
        });
        if (left.length === cleanup.what.length) return body;
        return left.length > 0 ? encodeCleanup({ ...cleanup, what: left }) : undefined;
      }
    }
  } catch {
    return body.includes(packIds([userId])) ? undefined : body;
  }
}

/** Takes the user out of every dead letter: replayed, it would bring their rows back. Returns how many were changed. */
export async function eraseFromDeadLetters(db: Database, bus: Bus, userId: number): Promise<number> {
  await bus.collectDeadLetters?.();
  let changed = 0;
  for (let after = 0; ; ) {
    const letters = await deadLettersAfter(db, after, AT_A_TIME);
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

/** Messages that name the user: dead letters, and what waits in queues where that can be looked at. */
export async function residueInMessages(db: Database, userId: number): Promise<Residue[]> {
  const counts = { 'bus.messages': 0, 'bus.dead_letters': 0 };
  for (let after = 0; ; ) {
    const letters = await deadLettersAfter(db, after, AT_A_TIME);
    if (letters.length === 0) break;
    for (const { body } of letters)
      if (messageWithout(body, userId) !== body) counts['bus.dead_letters'] += 1;
    after = letters.at(-1)!.id;
  }
  for (let after = 0; ; ) {
    const bodies = await waitingBodies(db, after, AT_A_TIME);
    if (bodies.length === 0) break;
    for (const { body } of bodies) if (messageWithout(body, userId) !== body) counts['bus.messages'] += 1;
    after = bodies.at(-1)!.id;
  }
  return Object.entries(counts).flatMap(([where, count]) => (count > 0 ? [{ where, count }] : []));
}
