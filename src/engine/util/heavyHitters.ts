/** All counts are halved after so many reads for each place, where they are to fade. */
const HALVE_AFTER = 100;

/**
 * Who reads most, in bounded memory: the Space-Saving counters of Metwally, Agrawal and El Abbadi (2005). A newcomer
 * takes the place of the one who was seen least and inherits the count: whoever makes up more than 1/size of all
 * reads is among them for certain.
 */
export class HeavyHitters {
  readonly #size: number;
  readonly #counts = new Map<number, number>();
  readonly #fades: boolean;
  #seen = 0;

  /** `fades: false`: counts are what they are, for whoever begins anew often. */
  constructor(size: number, { fades = true }: { fades?: boolean } = {}) {
    this.#size = size;
    this.#fades = fades;
  }

  /** `by`: what this time is worth. */
  saw(userId: number, by = 1): void {
    this.#seen += 1;
    if (this.#fades && this.#seen % (HALVE_AFTER * this.#size) === 0) this.#halve();
    const known = this.#counts.get(userId);
    if (known !== undefined || this.#counts.size < this.#size) {
      this.#counts.set(userId, (known ?? 0) + by);
      return;
    }
    let least: [number, number] = [0, Number.POSITIVE_INFINITY];
    for (const entry of this.#counts) {
      if (entry[1] < least[1]) least = entry;
      if (least[1] <= 1) break;
    }
    this.#counts.delete(least[0]);
    this.#counts.set(userId, least[1] + by);
  }

  /** Those of last week are not those of today. */
  #halve(): void {
    for (const [userId, count] of this.#counts) this.#counts.set(userId, count >> 1);
  }

  /** Somebody who is no more. */
  forget(userId: number): void {
    this.#counts.delete(userId);
  }

  /** The most frequent first, and how often they were seen, about. */
  top(count: number): { userId: number; reads: number }[] {
    return [...this.#counts]
      .sort((a, b) => b[1] - a[1])
      .slice(0, count)
      .map(([userId, reads]) => ({ userId, reads }));
  }
}
