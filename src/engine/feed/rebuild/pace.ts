import { setTimeout as sleep } from 'node:timers/promises';
import { bulkhead } from 'cockatiel';
import type { Bus } from '../../bus/bus.ts';

/**
 * Feeds may have no row or a thousand, so the number of feeds per transaction adapts to a target
 * duration.
 */
export interface ChunkLimits {
  readonly idleMs: number;
  /** Target while live fan-out has work. */
  readonly busyMs: number;
  readonly first: number;
  readonly least: number;
}

const MAX_CHUNK = 1_000;

/** Number of feeds of the next chunk, from the duration of the last ones. */
export class ChunkSize {
  #size: number;
  readonly #limits: ChunkLimits;
  readonly #max: number;

  /**
   * `max`: keeps a rate even. Without it a low rate would alternate between large chunks and long
   * waits.
   */
  constructor(limits: ChunkLimits, max: number = MAX_CHUNK) {
    this.#limits = limits;
    this.#size = limits.first;
    this.#max = Math.max(1, Math.min(max, MAX_CHUNK));
  }

  get feeds(): number {
    return Math.min(this.#size, this.#max);
  }

  /** `busy`: others wait for the locks of a chunk. */
  took(ms: number, busy: boolean): void {
    const { idleMs, busyMs, least } = this.#limits;
    const factor = Math.min(2, Math.max(0.25, (busy ? busyMs : idleMs) / Math.max(1, ms)));
    this.#size = Math.min(MAX_CHUNK, Math.max(least, Math.round(this.#size * factor)));
  }
}

const LIVE_QUEUES = ['events', 'rows.live'] as const;
const POLL_MS = 100;
/** Queues may be empty between two checks although posts keep arriving, so recent work counts. */
const BUSY_FOR_MS = 1_000;
/** Share of one session's time for bulk work while live fan-out has work. */
const SHARE = 0.25;

/**
 * Gives live fan-out priority in the database. While it has work, bulk work runs one call at a time
 * and pauses after each call. It never stops.
 */
export class LivePriority {
  readonly #bus: Pick<Bus, 'holds' | 'throughput'> | undefined;
  readonly #serial = bulkhead(1, Number.POSITIVE_INFINITY);
  #checkedAt = Number.NEGATIVE_INFINITY;
  #busyAt = Number.NEGATIVE_INFINITY;
  /** Messages that left each live queue, by consumer. */
  #counts: ReadonlyMap<string, number> | undefined;

  /** Without a bus, live fan-out counts as idle. */
  constructor(bus: Pick<Bus, 'holds' | 'throughput'> | undefined) {
    this.#bus = bus;
  }

  get busy(): boolean {
    return performance.now() - this.#busyAt < BUSY_FOR_MS;
  }

  /** Runs the work and the pause after it. `ms`: duration of the work alone. */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<{ result: T; ms: number }> {
    await this.#check();
    return this.busy ? this.#serial.execute(() => this.#timed(work, signal)) : this.#timed(work, signal);
  }

  async #timed<T>(work: () => Promise<T>, signal: AbortSignal): Promise<{ result: T; ms: number }> {
    const startedAt = performance.now();
    const result = await work();
    const ms = performance.now() - startedAt;
    if (this.busy) await sleep(ms * (1 / SHARE - 1), undefined, { signal }).catch(() => {});
    return { result, ms };
  }

  async #check(): Promise<void> {
    const now = performance.now();
    if (!this.#bus || now - this.#checkedAt < POLL_MS) return;
    this.#checkedAt = now;
    try {
      const [holds, passed] = await Promise.all([this.#bus.holds(LIVE_QUEUES), this.#havePassed(this.#bus)]);
      if (holds || passed) this.#busyAt = now;
    } catch {
      // The work itself needs no bus. Without an answer, live fan-out counts as idle.
    }
  }

  /**
   * Returns whether messages passed since the last check. They are in no queue any more, but
   * counted.
   */
  async #havePassed(bus: Pick<Bus, 'throughput'>): Promise<boolean> {
    const live = (await bus.throughput()).filter(({ queue }) => LIVE_QUEUES.some((one) => one === queue));
    const before = this.#counts;
    this.#counts = new Map(live.map(({ member, queue, count }) => [`${member} ${queue}`, count]));
    return before !== undefined && [...this.#counts].some(([key, count]) => count > (before.get(key) ?? 0));
  }
}
