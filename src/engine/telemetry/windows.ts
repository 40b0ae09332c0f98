/** Windows that rates are told over, in seconds. */
export const WINDOWS = { '1s': 1, '1m': 60, '5m': 300, '1h': 3_600 } as const;
export type WindowName = keyof typeof WINDOWS;
export const WINDOW_NAMES = Object.keys(WINDOWS) as readonly WindowName[];

/** Complete tumbling windows that are remembered: what processes tell of themselves is seconds apart. */
export const REMEMBERED = 4;

/** The longest window, and the second that has not ended. */
const SLOTS = WINDOWS['1h'] + 1;

/**
 * Counts by the second, for an hour. A *sliding* window is the last n whole seconds; a *tumbling* one begins at a
 * multiple of its length since 1970, so that those of all processes are of the same time and may be added up. The second that has
 * not ended is in neither. `width`: counters side by side, as the buckets of a histogram are. 4 bytes each a second.
 */
export class Windows {
  readonly width: number;
  readonly #now: () => number;
  readonly #slots: Uint32Array;
  /** By window: the newest first. */
  readonly #complete: Record<WindowName, Float64Array[]>;
  /** Unix time of the second that has not ended. */
  #second: number;

  /** `now`: unix milliseconds. */
  constructor(width: number, now: () => number = Date.now) {
    this.width = width;
    this.#now = now;
    this.#slots = new Uint32Array(SLOTS * width);
    this.#second = Math.floor(now() / 1_000);
    const none = () => Array.from({ length: REMEMBERED }, () => new Float64Array(width));
    this.#complete = { '1s': none(), '1m': none(), '5m': none(), '1h': none() };
  }

  add(index: number, by: number): void {
    const at = this.#slot(this.second) + index;
    this.#slots[at] = this.#slots[at]! + by;
  }

  /** Of the second that has not ended: unix seconds. A clock that is set back stands still until it is there again. */
  get second(): number {
    const second = Math.floor(this.#now() / 1_000);
    // What was counted longer ago than everything that is kept makes no difference.
    this.#second = Math.max(this.#second, second - 2 * REMEMBERED * SLOTS);
    while (this.#second < second) this.#begin(this.#second + 1);
    return this.#second;
  }

  /** The last whole seconds. */
  sliding(window: WindowName): Float64Array {
    return this.#sum(this.second, WINDOWS[window]);
  }

  /** Complete windows, the newest first: it ended at the last multiple of its length. */
  tumbling(window: WindowName): readonly Float64Array[] {
    void this.second;
    return this.#complete[window];
  }

  /** Of one counter: the last `count` whole steps of so many seconds, each beginning at a multiple of that, the oldest first. */
  series(index: number, stepSeconds: number, count: number): number[] {
    const end = this.second - (this.second % stepSeconds);
    return Array.from({ length: count }, (_, i) => {
      const stepEnd = end - (count - 1 - i) * stepSeconds;
      let sum = 0;
      for (let second = stepEnd - stepSeconds; second < stepEnd; second += 1)
        sum += this.#slots[this.#slot(second) + index]!;
      return sum;
    });
  }

  #slot(second: number): number {
    return (second % SLOTS) * this.width;
  }

  #sum(end: number, seconds: number): Float64Array {
    const sums = new Float64Array(this.width);
    for (let second = end - seconds; second < end; second += 1) {
      const at = this.#slot(second);
      for (let i = 0; i < this.width; i += 1) sums[i]! += this.#slots[at + i]!;
    }
    return sums;
  }

  #begin(second: number): void {
    for (const window of WINDOW_NAMES) {
      if (second % WINDOWS[window] !== 0) continue;
      this.#complete[window].pop();
      this.#complete[window].unshift(this.#sum(second, WINDOWS[window]));
    }
    this.#second = second;
    const at = this.#slot(second);
    this.#slots.fill(0, at, at + this.width);
  }
}
