const EVERY_MS = 20;
/** A frame that arrives now was held up by the delays of this time. */
const WINDOW_MS = 1_000;
/** A frame passes from a gateway to its client within this time, if this process is not busy. */
const FLIGHT_MS = 25;
/** The link reads and writes a frame, and the client reads it: each may wait for this process. */
const TURNS = 3;

/** Measures how late this process is, because it passes frames on and notes them. */
export class Lag {
  #last = performance.now();
  readonly #late: { readonly at: number; readonly ms: number }[] = [];
  readonly #timer = setInterval(() => {
    const now = performance.now();
    this.#note(now);
    this.#last = now;
  }, EVERY_MS);

  /** Maximum milliseconds that a frame which arrives now has been under way. */
  get flightMs(): number {
    const now = performance.now();
    // A turn that has not ended shows here first.
    const running = Math.max(0, now - this.#last - EVERY_MS);
    const recent = this.#late.filter(({ at }) => at > now - WINDOW_MS).map(({ ms }) => ms);
    return FLIGHT_MS + TURNS * Math.max(running, ...recent);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #note(now: number): void {
    this.#late.push({ at: now, ms: Math.max(0, now - this.#last - EVERY_MS) });
    while (this.#late[0]!.at < now - WINDOW_MS) this.#late.shift();
  }
}
