/** Rows of one batch of a lane that is slowed down, as a part of a second: it writes about twice a second. */
const BATCH_SECONDS = 0.5;

/**
 * Keeps a lane at a rate: after each batch it waits as long as the batch's rows are worth, so that there are no bursts
 * but those of a single message, which is written as a whole.
 */
export class Throttle {
  readonly #now: () => number;
  #rate: number | undefined;
  /** Until then nothing more may be written. */
  #dueAt = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Rows a second; undefined: no limit. What is owed already is owed at the new rate. */
  setRate(rate: number | undefined): void {
    const owed = Math.max(0, this.#dueAt - this.#now());
    this.#dueAt = this.#now() + (rate && this.#rate ? (owed * this.#rate) / rate : 0);
    this.#rate = rate;
  }

  get isLimited(): boolean {
    return this.#rate !== undefined;
  }

  /** Milliseconds until the next batch may be begun. */
  get waitMs(): number {
    return this.#rate === undefined ? 0 : Math.max(0, this.#dueAt - this.#now());
  }

  /** Rows that a batch should not have more of. */
  most(rows: number): number {
    return this.#rate === undefined ? rows : Math.min(rows, Math.ceil(this.#rate * BATCH_SECONDS));
  }

  spend(rows: number): void {
    if (this.#rate !== undefined)
      this.#dueAt = Math.max(this.#dueAt, this.#now()) + (rows / this.#rate) * 1_000;
  }
}
