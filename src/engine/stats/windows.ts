/** Windows that rates are told over, in seconds. */
export const WINDOWS = { '1s': 1, '1m': 60, '5m': 300, '1h': 3_600 } as const;
export type WindowName = keyof typeof WINDOWS;
export const WINDOW_NAMES = Object.keys(WINDOWS) as readonly WindowName[];

/** Complete tumbling windows that are remembered: what processes tell of themselves is seconds apart. */
export const COMPLETED_WINDOWS = 4;

/** The longest window, and the second that has not ended. */
const RING_SECONDS = WINDOWS['1h'] + 1;
/** A clock that goes off by less since it was looked at was late, or is being set gently. Seconds. */
const SET = 5;

/**
 * Counts by the second, for an hour. A *sliding* window is the last n whole seconds; a *tumbling* one begins at a
 * multiple of its length since 1970, so that those of all processes are of the same time and may be added up. The second that has
 * not ended is in neither. `width`: counters side by side, as the buckets of a histogram are. 4 bytes each a second.
 *
 * Where the clock is set, what was counted keeps its place before now: what is the last minute is a matter of the steady
 * clock. Which tumbling windows have been completed nobody can say then: they begin anew.
 */
export class Windows {
  readonly width: number;
  readonly #now: () => number;
  readonly #steady: () => number;
  readonly #slots: Uint32Array;
  /** By window: the newest first. */
  #complete: Record<WindowName, Float64Array[]>;
  /** Unix time of the second that has not ended. */
  #second: number;
  /** By the steady clock, in seconds: when the clock was looked at last. */
  #lookedAt: number;
  /** What the clock was set back by, altogether: a second's place is that of the second it would have been without. */
  #setBack = 0;
  readonly #began: number;

  /** `now`: unix milliseconds; `steady`: milliseconds of a clock that nobody sets. */
  constructor(width: number, now: () => number = Date.now, steady: () => number = now) {
    this.width = width;
    this.#now = now;
    this.#steady = steady;
    this.#slots = new Uint32Array(RING_SECONDS * width);
    this.#second = Math.floor(now() / 1_000);
    this.#began = this.#second;
    this.#lookedAt = steady() / 1_000;
    this.#complete = this.#none();
  }

  #none(): Record<WindowName, Float64Array[]> {
    const none = () => Array.from({ length: COMPLETED_WINDOWS }, () => new Float64Array(this.width));
    return { '1s': none(), '1m': none(), '5m': none(), '1h': none() };
  }

  /** When counting began, by the clock as it is now: unix seconds. */
  get since(): number {
    void this.second;
    return this.#began - this.#setBack;
  }

  add(index: number, by: number): void {
    const at = this.#slot(this.second) + index;
    this.#slots[at] = this.#slots[at]! + by;
  }

  /** Of the second that has not ended: unix seconds. A clock that is set back a little stands still until it is there again. */
  get second(): number {
    const second = Math.floor(this.#now() / 1_000);
    const steady = this.#steady() / 1_000;
    const passed = steady - this.#lookedAt;
    this.#lookedAt = steady;
    if (Math.abs(second - this.#second - passed) > SET) this.#set(second, Math.floor(passed));
    // What was counted longer ago than everything that is kept makes no difference.
    this.#second = Math.max(this.#second, second - 2 * COMPLETED_WINDOWS * RING_SECONDS);
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
    return ((second + this.#setBack) % RING_SECONDS) * this.width;
  }

  /** The clock was set: it is `second` now, and so many have passed. */
  #set(second: number, passed: number): void {
    for (let i = 0; i < Math.min(passed, RING_SECONDS); i += 1) this.#begin(this.#second + 1);
    this.#setBack += this.#second - second;
    this.#second = second;
    this.#complete = this.#none();
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
