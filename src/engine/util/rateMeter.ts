/** Shortest time that a rate is taken over, in seconds: work arrives in batches. */
const MIN_SECONDS = 5;
/** Part of the time so far that a rate is taken over. */
const RECENT = 1 / 3;
/** Distance between two samples, as a part of the time so far: at most 200 are kept. */
const SAMPLE_PART = 1 / 600;

interface Sample {
  readonly seconds: number;
  readonly done: number;
}

/**
 * Measures the rate of the last third of the work. The mean since the beginning would promise a wrong end to
 * work that became slower, and the rate of a moment jumps with each batch.
 */
export class RateMeter {
  /** The first sample is the newest of those before the recent part, or the beginning. */
  readonly #samples: Sample[];
  #last: Sample;
  #movedAt = 0;

  /** `done`: amount at the beginning, which belongs to no time. */
  constructor(done: number) {
    this.#last = { seconds: 0, done };
    this.#samples = [this.#last];
  }

  /** Takes the amount that is done `seconds` after the beginning. */
  add(seconds: number, done: number): void {
    if (done !== this.#last.done) this.#movedAt = seconds;
    this.#last = { seconds, done };
    if (seconds - this.#samples.at(-1)!.seconds >= seconds * SAMPLE_PART) this.#samples.push(this.#last);
    const from = seconds - Math.max(MIN_SECONDS, seconds * RECENT);
    while (this.#samples.length > 1 && this.#samples[1]!.seconds <= from) this.#samples.shift();
  }

  get perSecond(): number {
    const { seconds, done } = this.#last;
    const first = this.#samples[0]!;
    return seconds > first.seconds ? Math.max(0, done - first.done) / (seconds - first.seconds) : 0;
  }

  /** Seconds since the amount has changed. */
  get idleSeconds(): number {
    return this.#last.seconds - this.#movedAt;
  }
}
