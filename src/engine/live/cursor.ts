import { FeedctlError } from '../model/errors.ts';
import { firstIdAt, IDS_PER_MS, MAX_ID, parseId } from '../model/ids.ts';

/** Maximum age at which a post arrives after posts with higher ids, while no component is late. */
export const REORDER_MS = 5_000;
/** Maximum ids of a cursor. */
export const REMEMBERED = 512;

/**
 * Posts that a client has been sent: all at or below `low`, and above it these ids in rising order.
 */
export interface Cursor {
  readonly low: number;
  readonly ids: readonly number[];
  /**
   * It names a time that has not come: a clock was ahead when it was made, or the database has gone back.
   * Posts that are made until then are not above it.
   */
  readonly isAhead?: true;
}

/** Ids run ahead of the clock by 50 ms, and gateways know the database's clock nearly as exactly. */
const AHEAD_MS = 1_000;
const VERSION = 1;
const MAX_LENGTH = 4_096;

/**
 * Encodes version, low, and each id as its distance from the previous one: seven bits a byte,
 * lowest first.
 */
export function encodeCursor(low: number, ids: readonly number[], from = 0): string {
  const bytes: number[] = [VERSION];
  const put = (value: number) => {
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
    bytes.push(rest);
  };
  put(low);
  for (let i = from, last = low; i < ids.length; last = ids[i]!, i += 1) put(ids[i]! - last);
  return Buffer.from(bytes).toString('base64url');
}

const invalid = () => new FeedctlError('INVALID_CURSOR', 'the cursor was not made by a gateway');

/**
 * Parses a cursor of a client, or the bare id of a post. After a bare id, posts up to one reorder
 * window older may arrive again. A cursor is not signed: it only selects posts of its bearer's own
 * feed. `now`: unix milliseconds of the database. Throws INVALID_CURSOR or INVALID_ID.
 */
export function parseCursor(text: string, now: number): Cursor {
  const ahead = (newest: number) => newest > firstIdAt(now + AHEAD_MS) && { isAhead: true as const };
  if (/^\d+$/.test(text)) {
    const id = parseId(text, 'post');
    return { low: Math.max(0, id - REORDER_MS * IDS_PER_MS), ids: [], ...ahead(id) };
  }
  if (text.length > MAX_LENGTH) throw invalid();
  const bytes = Buffer.from(text, 'base64url');
  let at = 1;
  const take = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw invalid();
      value += (byte & 127) * scale;
      if (value > MAX_ID) throw invalid();
      if (byte < 128) return value;
    }
  };
  const low = take();
  const ids: number[] = [];
  for (let last = low; at < bytes.length; ids.push(last)) last += take();
  const newest = ids.at(-1) ?? low;
  const known = bytes[0] === VERSION && ids.length <= REMEMBERED && newest <= MAX_ID;
  // Each cursor has one encoding. This refuses characters outside base64url and ids that do not
  // rise.
  if (!known || encodeCursor(low, ids) !== text || ids.some((id, i) => id <= (ids[i - 1] ?? low)))
    throw invalid();
  return { low, ids, ...ahead(newest) };
}
