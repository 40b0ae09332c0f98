/**
 * Runs `work` one run at a time. Every call gets a run that began after the call: calls during a
 * run share the next one. A failed run fails its own callers only.
 */
export class Coalesced<T> {
  readonly #work: () => Promise<T>;
  #current: Promise<unknown> = Promise.resolve();
  #next: Promise<T> | undefined;

  constructor(work: () => Promise<T>) {
    this.#work = work;
  }

  run(): Promise<T> {
    this.#next ??= this.#current
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        const run = this.#work();
        this.#current = run;
        return run;
      });
    return this.#next;
  }

  /** A call waits for a run that has not begun. */
  get waiting(): boolean {
    return this.#next !== undefined;
  }

  /** Resolves when neither a run nor a waiting call is left. Never rejects. */
  async idle(): Promise<void> {
    await Promise.allSettled([this.#current, this.#next]);
  }
}
