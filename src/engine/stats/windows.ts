/** Windows of rates, in seconds. */
export const WINDOWS = { '1s': 1, '1m': 60, '5m': 300, '1h': 3_600 } as const;
export type WindowName = keyof typeof WINDOWS;
export const WINDOW_NAMES = Object.keys(WINDOWS) as readonly WindowName[];

/** Complete tumbling windows that are kept, because reports of processes are seconds apart. */
export const COMPLETED_WINDOWS = 4;

/** The longest window, and the second that has not ended. */
const RING_SECONDS = WINDOWS['1h'] + 1;
/** Seconds. A clock that deviates less between two readings was read late, or is being slewed. */
const MAX_DEVIATION = 5;

/**
 * Counts by the second, for an hour. A *sliding* window is the last n whole seconds. A *tumbling*
 * window begins at a multiple of its length since 1970, so that those of all processes are of the
 * same time and add up. Neither contains the current second. `width`: number of counters, such as
 * the buckets of a histogram, of 4 bytes a second each.
 *
 * When the clock is set, counts keep their distance from now: the last minute is that of the
 * monotonic clock. Completed tumbling windows are unknown then, and are dropped.
 */
export class Windows {
  readonly width: number;
  readonly #now: () => number;
  readonly #steady: () => number;
  readonly #ring: Uint32Array;
  /** Counts of the last whole seconds, kept as seconds begin: an hour of them is not added every second. */
  readonly #sliding: Readonly<Record<WindowName, Float64Array>>;
  /** Completed windows, the newest first. */
  #complete: Record<WindowName, Float64Array[]>;
  /** Unix time of the current second. */
  #second: number;
  /** Time of the last reading of the clock, by the monotonic clock in seconds. */
  #readAt: number;
  /**
   * Seconds by which the clock was set back in total. A second's offset is as if it had not been.
   */
  #setBack = 0;
  readonly #began: number;

  /** `now`: unix milliseconds; `steady`: milliseconds of a monotonic clock. */
  constructor(width: number, now: () => number = Date.now, steady: () => number = now) {
    this.width = width;
    this.#now = now;
    this.#steady = steady;
    this.#ring = new Uint32Array(RING_SECONDS * width);
    const sums = () => new Float64Array(width);
    this.#sliding = { '1s': sums(), '1m': sums(), '5m': sums(), '1h': sums() };
    this.#second = Math.floor(now() / 1_000);
    this.#began = this.#second;
    this.#readAt = steady() / 1_000;
    this.#complete = this.#none();
  }

  #none(): Record<WindowName, Float64Array[]> {
    const none = () => Array.from({ length: COMPLETED_WINDOWS }, () => new Float64Array(this.width));
    return { '1s': none(), '1m': none(), '5m': none(), '1h': none() };
  }

  /** Start of counting by the current clock: unix seconds. */
  get since(): number {
    void this.second;
    return this.#began - this.#setBack;
  }

  add(index: number, by: number): void {
    const at = this.#offset(this.second) + index;
    this.#ring[at] = this.#ring[at]! + by;
  }

  /**
   * Unix time of the current second. It does not change while a clock that was set back a little
   * catches up.
   */
  get second(): number {
    const second = Math.floor(this.#now() / 1_000);
    const steady = this.#steady() / 1_000;
    const passed = steady - this.#readAt;
    this.#readAt = steady;
    if (Math.abs(second - this.#second - passed) > MAX_DEVIATION) this.#setClock(second, Math.floor(passed));
    this.#skipTo(second - 2 * COMPLETED_WINDOWS * RING_SECONDS);
    while (this.#second < second) this.#begin(this.#second + 1);
    return this.#second;
  }

  /** Returns counts of the last whole seconds. */
  sliding(window: WindowName): Float64Array {
    void this.second;
    return this.#sliding[window].slice();
  }

  /** Returns counts of complete windows, the newest first. */
  tumbling(window: WindowName): readonly Float64Array[] {
    void this.second;
    return this.#complete[window];
  }

  /**
   * Returns the last `count` whole steps of one counter, the oldest first. Steps begin at multiples
   * of their length.
   */
  series(index: number, stepSeconds: number, count: number): number[] {
    const end = this.second - (this.second % stepSeconds);
    return Array.from({ length: count }, (_, i) => {
      const stepEnd = end - (count - 1 - i) * stepSeconds;
      let sum = 0;
      for (let second = stepEnd - stepSeconds; second < stepEnd; second += 1)
        sum += this.#ring[this.#offset(second) + index]!;
      return sum;
    });
  }

  #offset(second: number): number {
    return ((second + this.#setBack) % RING_SECONDS) * this.width;
  }

  /** Handles a clock that was set to `second`, `passed` seconds after its last reading. */
  #setClock(second: number, passed: number): void {
    for (let i = 0; i < Math.min(passed, RING_SECONDS); i += 1) this.#begin(this.#second + 1);
    this.#setBack += this.#second - second;
    this.#second = second;
    this.#complete = this.#none();
  }

  /** Forgets counts that are older than everything that is kept. */
  #skipTo(second: number): void {
    if (this.#second >= second) return;
    this.#second = second;
    this.#ring.fill(0);
    for (const window of WINDOW_NAMES) this.#sliding[window].fill(0);
  }

  /** Adds the second that has ended to each window, and takes the one out that leaves it. */
  #slide(): void {
    const ended = this.#offset(this.#second);
    for (const window of WINDOW_NAMES) {
      const left = this.#offset(this.#second - WINDOWS[window]);
      const sums = this.#sliding[window];
      for (let i = 0; i < this.width; i += 1) sums[i]! += this.#ring[ended + i]! - this.#ring[left + i]!;
    }
  }

  #begin(second: number): void {
    this.#slide();
    for (const window of WINDOW_NAMES) {
      if (second % WINDOWS[window] !== 0) continue;
      this.#complete[window].pop();
      this.#complete[window].unshift(this.#sliding[window].slice());
    }
    this.#second = second;
    const at = this.#offset(second);
    this.#ring.fill(0, at, at + this.width);
  }
}
