/** Runs a limited number of calls at a time. Other calls wait in order. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** `waited`: another call may have done the work meanwhile. */
  async run<T>(work: (waited: boolean) => Promise<T>): Promise<T> {
    const waits = this.#free === 0;
    if (waits) await new Promise<void>((go) => this.#waiting.push(go));
    else this.#free -= 1;
    try {
      return await work(waits);
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}
