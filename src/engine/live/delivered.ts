import { IDS_PER_MS, isImported } from '../model/ids.ts';
import { type Cursor, REMEMBERED, REORDER_MS } from './cursor.ts';

/** What comes late after a fault is later than usual: a cursor reaches back that far while it stays short. */
const LATE_MS = 60_000;
const SHORT = 32;

/**
 * What one session has been sent. It remembers the newest ids; of those it has forgotten, and of those before its
 * beginning, the highest: at or below that nothing is sent any more. The mark of the cursor trails the newest id by
 * a minute, or by 32 posts if those are fewer, and by five seconds at least. Posts that were imported have ids of
 * another time: they are sent whatever the marks say.
 */
export class Delivered {
  /** Above the mark, and some below it; they rise. */
  ids!: number[];
  /** Everything at or below has been sent, or is not to be. Never above the mark. */
  #floor!: number;
  #low!: number;

  constructor(cursor: Cursor) {
    this.reset(cursor);
  }

  reset(cursor: Cursor): void {
    this.ids = [...cursor.ids];
    this.#floor = cursor.low;
    this.#low = cursor.low;
  }

  /** The mark of the cursor. */
  get low(): number {
    return this.#low;
  }

  /** It has been sent, or is not to be sent. */
  has(id: number): boolean {
    return this.knows(id) || (id <= this.#floor && !isImported(id));
  }

  /** It has been sent, and that is remembered. */
  knows(id: number): boolean {
    return this.ids.length > 0 && id <= this.ids.at(-1)! && this.ids[firstAbove(this.ids, id) - 1] === id;
  }

  /** `hold`: the mark does not pass this id, as what is older may still come. */
  add(id: number, hold: number): void {
    const { ids } = this;
    if (ids.length === 0 || id > ids.at(-1)!) ids.push(id);
    else ids.splice(firstAbove(ids, id), 0, id);
    if (ids.length > REMEMBERED) {
      const forgotten = ids.shift()!;
      if (!isImported(forgotten)) this.#floor = Math.max(this.#floor, forgotten);
    }
    const newest = ids.at(-1)!;
    const trailing = Math.max(newest - LATE_MS * IDS_PER_MS, ids[ids.length - 1 - SHORT] ?? 0);
    const mark = Math.min(hold, trailing, newest - REORDER_MS * IDS_PER_MS);
    this.#low = Math.max(this.#low, this.#floor, mark);
  }

  /** Where the ids above the mark begin. */
  get from(): number {
    return firstAbove(this.ids, this.#low);
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
