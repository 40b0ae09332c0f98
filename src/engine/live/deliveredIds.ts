import { IDS_PER_MS, isAhead, isImported } from '../model/ids.ts';
import { type Cursor, REMEMBERED, REORDER_MS } from './cursor.ts';

/** An open session replays posts of this long: after a fault, posts arrive later than usual. */
const REPLAY_WINDOW_MS = 60_000;
/** A cursor covers the replay window while it holds at most this many ids. */
const SHORT_CURSOR_IDS = 32;
/** Maximum ids that a session remembers, for a reader of very many posts: 32 KB. */
const MAX_REMEMBERED = 4_096;

/**
 * The posts that one session has been sent. It remembers the newest ids, and a floor: the highest
 * id that it has forgotten or that was made before the session. Nothing at or below the floor is
 * sent.
 *
 * The watermark trails the newest id by a minute. The watermark of the cursor, which is part of
 * every frame, trails it by 32 posts if those are fewer, and by at least five seconds.
 *
 * Imported posts have ids of another time, so they are sent regardless of the watermarks. Ids of
 * the future are not part of a cursor or of a watermark: posts made until then would be below them.
 */
export class DeliveredIds {
  /** Ids above the watermark, and some below it, in rising order. */
  ids!: number[];
  /** Everything at or below has been sent, or must not be sent. Never above the watermarks. */
  #floor!: number;
  #watermark!: number;
  #cursorWatermark!: number;
  /** Ids of the future. */
  #ahead: number[] | undefined;

  /** `floor`: everything at or below has been sent, or must not be sent. */
  constructor(cursor: Cursor, floor = cursor.low) {
    this.reset(cursor, floor);
  }

  reset(cursor: Cursor, floor = cursor.low): void {
    this.ids = [...cursor.ids];
    this.#floor = floor;
    this.#watermark = cursor.low;
    this.#cursorWatermark = cursor.low;
  }

  /** Posts that the session has missed are above it. */
  get watermark(): number {
    return this.#watermark;
  }

  /** The watermark of the cursor. */
  get cursorWatermark(): number {
    return this.#cursorWatermark;
  }

  /** Returns true if the post has been sent or must not be sent. */
  has(id: number): boolean {
    return this.knows(id) || (id <= this.#floor && !isImported(id));
  }

  /** Returns true if the session remembers that the post has been sent. */
  knows(id: number): boolean {
    const { ids } = this;
    if (ids.length > 0 && id <= ids.at(-1)! && ids[firstAbove(ids, id) - 1] === id) return true;
    return this.#ahead?.includes(id) ?? false;
  }

  /** Adds a sent post. `limit`: maximum of the watermarks, because older posts may still arrive. */
  add(id: number, limit: number): void {
    if (isAhead(id)) {
      this.#ahead = [...(this.#ahead ?? []).slice(1 - REMEMBERED), id];
      return;
    }
    const { ids } = this;
    if (ids.length === 0 || id > ids.at(-1)!) ids.push(id);
    else ids.splice(firstAbove(ids, id), 0, id);
    const newest = ids.at(-1)!;
    const watermark = Math.min(limit, newest - REPLAY_WINDOW_MS * IDS_PER_MS);
    while (ids.length > REMEMBERED && (ids[0]! <= watermark || ids.length > MAX_REMEMBERED)) {
      const forgotten = ids.shift()!;
      if (!isImported(forgotten)) this.#floor = Math.max(this.#floor, forgotten);
    }
    this.#watermark = Math.max(this.#watermark, this.#floor, watermark);
    const short = Math.min(
      limit,
      ids[ids.length - 1 - SHORT_CURSOR_IDS] ?? 0,
      newest - REORDER_MS * IDS_PER_MS,
    );
    // The maximum of ids in a cursor takes precedence over the limit.
    this.#cursorWatermark = Math.max(
      this.#cursorWatermark,
      this.#watermark,
      short,
      ids[ids.length - 1 - REMEMBERED] ?? 0,
    );
  }

  /** Index of the first id above the watermark of the cursor. */
  get from(): number {
    return firstAbove(this.ids, this.#cursorWatermark);
  }
}

/** Returns the index of the first id above this one. */
function firstAbove(ids: readonly number[], id: number): number {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ids[middle]! <= id) low = middle + 1;
    else high = middle;
  }
  return low;
}
