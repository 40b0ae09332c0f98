import type { Database } from '../database/database.ts';
import { anyUndispatched } from '../store/events.ts';
import { type Barrier, type Bus, STAGES } from './bus.ts';
import { messagesIn } from './depths.ts';
import { idAboveAll } from './drained.ts';

/**
 * A barrier that has not passed for this long may be lost: its queue was purged, or another cluster has
 * consumed it. Empty queues count from then on.
 */
const BARRIER_LOST_MS = 120_000;

/**
 * Finds out whether everything that was in flight at the first question has been handled, as `fanOutDrained`
 * does, but without waiting: the caller asks again and again.
 */
export class DrainWatch {
  readonly #db: Database;
  readonly #bus: Bus;
  readonly #barrierLostMs: number;
  readonly #startedAt = performance.now();
  /** Ids of the events in flight are smaller. */
  #lastId: number | undefined;
  #dispatched = false;
  #stage = 0;
  #barrier: Barrier | undefined;
  /** The queues were empty when the last call looked. */
  #empty = false;

  constructor({ db, bus }: { db: Database; bus: Bus }, barrierLostMs: number = BARRIER_LOST_MS) {
    this.#db = db;
    this.#bus = bus;
    this.#barrierLostMs = barrierLostMs;
  }

  /** Returns whether all has been handled. Once it has returned true, it must not be asked again. */
  async passed(): Promise<boolean> {
    if (!this.#dispatched) {
      this.#lastId ??= await idAboveAll(this.#db);
      if (await anyUndispatched(this.#db, this.#lastId)) return false;
      this.#dispatched = true;
    }
    while (this.#stage < STAGES.length) {
      this.#barrier ??= await this.#bus.placeBarrier(STAGES[this.#stage]!);
      if (!(await this.#bus.hasPassed(this.#barrier))) return this.#isLost();
      this.#stage += 1;
      this.#barrier = undefined;
    }
    return true;
  }

  /** A broker knows messages in flight as of a second ago: the queues are empty if two calls say so. */
  async #isLost(): Promise<boolean> {
    if (performance.now() - this.#startedAt < this.#barrierLostMs) return false;
    const queues: readonly string[] = STAGES.flat();
    const depths = await this.#bus.depths();
    const wasEmpty = this.#empty;
    this.#empty = depths.every((depth) => !queues.includes(depth.queue) || messagesIn(depth) === 0);
    return wasEmpty && this.#empty;
  }
}
