import { IDS_PER_MS, isAhead, isImported } from '../model/ids.ts';
import { type Cursor, REMEMBERED, REORDER_MS } from './cursor.ts';

/** What comes late after a fault is later than usual: an open session looks back that far. */
const REPLAY_WINDOW_MS = 60_000;
/** A cursor reaches back as far while it stays so short. */
const SHORT_CURSOR_IDS = 32;
/** Ids that a session remembers of a reader who gets very many within the time that it looks back: 32 KB. */
const MAX_REMEMBERED = 4_096;

/**
 * What one session has been sent. It remembers the newest ids; of those it has forgotten, and of those before its
 * beginning, the highest: at or below that nothing is sent any more. Its mark trails the newest id by a minute. The
 * mark of its cursor, which goes with every frame, by 32 posts if those are fewer, and by five seconds at least.
 * Posts that were imported have ids of another time: they are sent whatever the marks say. Of a time to come they are no
 * part of a cursor, nor of the marks: what is made until then would be behind them.
 */
export class DeliveredIds {
  /** Above the mark, and some below it; they rise. */
  ids!: number[];
  /** Everything at or below has been sent, or is not to be. Never above the marks. */
  #floor!: number;
  #watermark!: number;
  #cursorWatermark!: number;
  /** Posts of a time to come. */
  #ahead: number[] | undefined;

  /** `floor`: everything at or below has been sent, or is not to be. */
  constructor(cursor: Cursor, floor = cursor.low) {
    this.reset(cursor, floor);
  }

  reset(cursor: Cursor, floor = cursor.low): void {
    this.ids = [...cursor.ids];
    this.#floor = floor;
    this.#watermark = cursor.low;
    this.#cursorWatermark = cursor.low;
  }

  /** What the session has missed is above it. */
  get watermark(): number {
    return this.#watermark;
  }

  /** The mark of the cursor. */
  get cursorWatermark(): number {
    return this.#cursorWatermark;
  }

  /** It has been sent, or is not to be sent. */
  has(id: number): boolean {
    return this.knows(id) || (id <= this.#floor && !isImported(id));
  }

  /** It has been sent, and that is remembered. */
  knows(id: number): boolean {
    const { ids } = this;
    if (ids.length > 0 && id <= ids.at(-1)! && ids[firstAbove(ids, id) - 1] === id) return true;
    return this.#ahead?.includes(id) ?? false;
  }

  /** `hold`: the marks do not pass this id, as what is older may still come. */
  add(id: number, hold: number): void {
    if (isAhead(id)) {
      this.#ahead = [...(this.#ahead ?? []).slice(1 - REMEMBERED), id];
      return;
    }
    const { ids } = this;
    if (ids.length === 0 || id > ids.at(-1)!) ids.push(id);
    else ids.splice(firstAbove(ids, id), 0, id);
    const newest = ids.at(-1)!;
    const mark = Math.min(hold, newest - REPLAY_WINDOW_MS * IDS_PER_MS);
    while (ids.length > REMEMBERED && (ids[0]! <= mark || ids.length > MAX_REMEMBERED)) {
      const forgotten = ids.shift()!;
      if (!isImported(forgotten)) this.#floor = Math.max(this.#floor, forgotten);
    }
    this.#watermark = Math.max(this.#watermark, this.#floor, mark);
    const short = Math.min(
      hold,
      ids[ids.length - 1 - SHORT_CURSOR_IDS] ?? 0,
      newest - REORDER_MS * IDS_PER_MS,
    );
    // A cursor holds no more ids than it may, whatever is to be held.
    this.#cursorWatermark = Math.max(
      this.#cursorWatermark,
      this.#watermark,
      short,
      ids[ids.length - 1 - REMEMBERED] ?? 0,
    );
  }

  /** Where the ids above the mark begin. */
  get from(): number {
    return firstAbove(this.ids, this.#cursorWatermark);
  }
}

/** The place of the first id above this one. */
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
