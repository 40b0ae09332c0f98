/** Number of counted items, per place of the list, after which fading counts are halved. */
const HALVE_AFTER = 100;

/**
 * Finds the most frequent keys of a stream in bounded memory: the Space-Saving counters of
 * Metwally, Agrawal and El Abbadi (2005). A new key replaces the key with the smallest count and
 * inherits that count. So every key with more than 1/size of the stream is in the list. For
 * instance the readers with the most reads, or the authors with the most rows.
 */
export class HeavyHitters {
  readonly #size: number;
  readonly #counts = new Map<number, number>();
  readonly #fades: boolean;
  #added = 0;

  /**
   * `fades`: halves counts from time to time, so that old activity loses weight. Without it a
   * caller has to start a new list from time to time.
   */
  constructor(size: number, { fades = true }: { fades?: boolean } = {}) {
    this.#size = size;
    this.#fades = fades;
  }

  /** Counts a key. `weight`: what one occurrence adds. */
  add(key: number, weight = 1): void {
    this.#added += 1;
    if (this.#fades && this.#added % (HALVE_AFTER * this.#size) === 0) this.#halve();
    const known = this.#counts.get(key);
    if (known !== undefined || this.#counts.size < this.#size) {
      this.#counts.set(key, (known ?? 0) + weight);
      return;
    }
    let least: [number, number] = [0, Number.POSITIVE_INFINITY];
    for (const entry of this.#counts) {
      if (entry[1] < least[1]) least = entry;
      if (least[1] <= 1) break;
    }
    this.#counts.delete(least[0]);
    this.#counts.set(key, least[1] + weight);
  }

  #halve(): void {
    for (const [key, count] of this.#counts) this.#counts.set(key, count >> 1);
  }

  /** Removes a key, for instance of a deleted user. */
  forget(key: number): void {
    this.#counts.delete(key);
  }

  /** Returns the most frequent keys first, with approximate counts. */
  top(limit: number): { key: number; count: number }[] {
    return [...this.#counts]
      .sort((a, b) => b[1] - a[1])
      .slice(0, limit)
      .map(([key, count]) => ({ key, count }));
  }
}
