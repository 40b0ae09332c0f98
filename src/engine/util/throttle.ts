/** Seconds of work per batch, so that a throttled writer writes about twice a second. */
const BATCH_SECONDS = 0.5;

/**
 * Limits a rate of rows, or of other units. After each batch it waits as long as the batch is
 * worth. So there are no bursts, except for a single message, which is written as a whole.
 */
export class Throttle {
  readonly #now: () => number;
  #rate: number | undefined;
  /** Time of the next batch, by `now`. */
  #dueAt = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /**
   * Sets the rate in rows per second. Undefined removes the limit. Rows that are not paid off yet
   * count at the new rate.
   */
  setRate(rate: number | undefined): void {
    const owed = Math.max(0, this.#dueAt - this.#now());
    this.#dueAt = this.#now() + (rate && this.#rate ? (owed * this.#rate) / rate : 0);
    this.#rate = rate;
  }

  get isLimited(): boolean {
    return this.#rate !== undefined;
  }

  /** Milliseconds until the next batch may begin. */
  get waitMs(): number {
    return this.#rate === undefined ? 0 : Math.max(0, this.#dueAt - this.#now());
  }

  /** Returns the maximum size of the next batch. `rows`: maximum without a throttle. */
  maxBatch(rows: number): number {
    return this.#rate === undefined ? rows : Math.min(rows, Math.ceil(this.#rate * BATCH_SECONDS));
  }

  spend(rows: number): void {
    if (this.#rate !== undefined)
      this.#dueAt = Math.max(this.#dueAt, this.#now()) + (rows / this.#rate) * 1_000;
  }
}
