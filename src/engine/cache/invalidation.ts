import type { Queryable } from '../database/database.ts';
import { ROW_BYTES, rowUser } from '../model/messages.ts';
import type { FeedChanges } from './changes.ts';

/** Notifies every process of the feeds that a transaction changes: on its commit, and only then. */
export const INVALIDATE_CHANNEL = 'feedctl_feed_changed';

const BUCKETS = 1 << 15;
/**
 * Above this many slots, of two bytes each, the bitmap is the smaller payload. A notification has
 * room for 8,000 bytes.
 */
const MAX_LISTED = 1_500;

/** Returns one user of every slot, which invalidates all feeds. */
export const everySlot = (): number[] => Array.from({ length: BUCKETS }, (_, slot) => slot);

export const slotOf = (userId: number): number => userId % BUCKETS;

/**
 * Collects the feeds that a transaction changes. A batch may change 20,000 feeds, and a
 * notification has room for 8,000 bytes, so users are named by slot. The other users of a slot lose
 * their cached feed too, which is harmless.
 */
export class ChangedFeeds {
  readonly #bitmap = Buffer.alloc(BUCKETS / 8);

  add(userId: number): void {
    const slot = slotOf(userId);
    this.#bitmap[slot >> 3]! |= 1 << (slot & 7);
  }

  /** Sends the notification. Called inside the transaction. */
  async notify(session: Queryable): Promise<void> {
    const slots = [...this.#slots()];
    if (slots.length === 0) return;
    const payload =
      slots.length <= MAX_LISTED
        ? `l${Buffer.from(Uint16Array.from(slots).buffer).toString('base64')}`
        : `b${this.#bitmap.toString('base64')}`;
    await session.query('select pg_notify($1, $2)', [INVALIDATE_CHANNEL, payload]);
  }

  *#slots(): Generator<number> {
    for (let byte = 0; byte < this.#bitmap.length; byte += 1) {
      const bits = this.#bitmap[byte]!;
      for (let bit = 0; bits >> bit > 0; bit += 1) if (bits & (1 << bit)) yield byte * 8 + bit;
    }
  }
}

const nothing = async (): Promise<void> => {};

/**
 * Reports changes by a notification of the transaction itself, for caches in the memory of
 * processes. A page from such a cache is joined with the current follows and posts, so texts and
 * deletions need no report.
 */
export const notifiedChanges: FeedChanges = {
  kind: 'memory',
  async changing(session, userIds) {
    const changed = new ChangedFeeds();
    for (const id of userIds) changed.add(id);
    await changed.notify(session);
  },
  async writing(session, rows) {
    const changed = new ChangedFeeds();
    for (const part of rows)
      for (let at = 0; at < part.length; at += ROW_BYTES) changed.add(rowUser(part, at));
    await changed.notify(session);
  },
  resetting: nothing,
  forget: nothing,
  push: nothing,
  posted: nothing,
  edited: nothing,
  deleted: nothing,
  erased: nothing,
};

/** Returns the slots of a payload. */
export function slotsOfPayload(payload: string): number[] {
  const bytes = Buffer.from(payload.slice(1), 'base64');
  const slots: number[] = [];
  if (payload[0] === 'l') {
    for (let at = 0; at + 1 < bytes.length; at += 2) slots.push(bytes.readUInt16LE(at));
  } else {
    for (let slot = 0; slot < bytes.length * 8; slot += 1)
      if (bytes[slot >> 3]! & (1 << (slot & 7))) slots.push(slot);
  }
  return slots;
}
