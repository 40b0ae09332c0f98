import { FeedctlError } from '../model/errors.ts';
import { firstIdAt, IDS_PER_MS, MAX_ID, parseId } from '../model/ids.ts';

/** Posts of several authors come in the order of their ids only nearly: by so much, at most, on an ordinary day. */
export const REORDER_MS = 5_000;
/** More ids than this no cursor holds. */
export const REMEMBERED = 512;

/** What a client has been sent: everything at or below `low`, and above it these ids, which rise. */
export interface Cursor {
  readonly low: number;
  readonly ids: readonly number[];
}

/** Clocks of gateways differ a little. */
const AHEAD_MS = 60_000;
const VERSION = 1;
const LONGEST = 4_096;

/** Version, low, and each id as its distance from the one before: numbers of seven bits a byte, lowest first. */
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

const invalid = () => new FeedctlError('INVALID_CURSOR', 'the cursor is none that a gateway has made');

/**
 * A cursor as a client sends it back, or the bare id of a post: then whatever is at most one reorder window older may
 * come again. It is not signed: its bearer can but choose which of their own posts to get. Throws INVALID_CURSOR.
 */
export function parseCursor(text: string, now = Date.now()): Cursor {
  const latest = firstIdAt(now + AHEAD_MS);
  if (/^\d+$/.test(text)) {
    const id = parseId(text, 'post');
    if (id > latest) throw invalid();
    return { low: Math.max(0, id - REORDER_MS * IDS_PER_MS), ids: [] };
  }
  if (text.length > LONGEST) throw invalid();
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
  const known = bytes[0] === VERSION && ids.length <= REMEMBERED && (ids.at(-1) ?? low) <= latest;
  // One way to write each: also refuses what base64url has no letters for, and ids that do not rise.
  if (!known || encodeCursor(low, ids) !== text || ids.some((id, i) => id <= (ids[i - 1] ?? low)))
    throw invalid();
  return { low, ids };
}
