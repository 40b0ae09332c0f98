import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus } from '../bus/bus.ts';
import { Slots } from '../cache/slots.ts';

/** Of the feeds that one transaction takes. */
interface ChunkLimits {
  /** Feeds may have no row or a thousand: chunks grow and shrink so that each takes about so many milliseconds. */
  readonly idleMs: number;
  readonly busyMs: number;
  readonly first: number;
  readonly least: number;
}

const MOST = 1_000;
export const CHUNKS = {
  plain: { idleMs: 60, busyMs: 15, first: 100, least: 10 },
  /** All shards are asked for posts, which takes some 100 ms for ten feeds, and twice that for a thousand. */
  sharded: { idleMs: 1_000, busyMs: 300, first: 400, least: 200 },
} as const satisfies Record<string, ChunkLimits>;

/** How many feeds to take at once, by how long the last ones took. */
export class ChunkSize {
  #size: number;
  readonly #limits: ChunkLimits;
  readonly #most: number;

  /** `most`: for a rate that would be waited for in lumps otherwise. */
  constructor(limits: ChunkLimits, most: number = MOST) {
    this.#limits = limits;
    this.#size = limits.first;
    this.#most = Math.max(1, Math.min(most, MOST));
  }

  get feeds(): number {
    return Math.min(this.#size, this.#most);
  }

  /** `busy`: others wait for what a chunk holds up. */
  took(ms: number, busy: boolean): void {
    const { idleMs, busyMs, least } = this.#limits;
    const factor = Math.min(2, Math.max(0.25, (busy ? busyMs : idleMs) / Math.max(1, ms)));
    this.#size = Math.min(MOST, Math.max(least, Math.round(this.#size * factor)));
  }
}

const LIVE = new Set(['events', 'rows.live']);
const LOOK_EVERY_MS = 100;
/** Posts come and go between two looks: what was seen lately counts. */
const BUSY_FOR_MS = 1_000;
/** Of one session's time, where live fan-out has work: the rest is left to it. */
const SHARE = 0.25;

/**
 * Leaves the database to live fan-out while that has work: then bulk work does one thing at a time and rests after it, but
 * never stops.
 */
export class LiveFirst {
  readonly #bus: Bus | undefined;
  readonly #alone = new Slots(1);
  #lookedAt = Number.NEGATIVE_INFINITY;
  #busyAt = Number.NEGATIVE_INFINITY;

  /** Without a bus nobody is waited for. */
  constructor(bus: Bus | undefined) {
    this.#bus = bus;
  }

  get busy(): boolean {
    return performance.now() - this.#busyAt < BUSY_FOR_MS;
  }

  /** The work and, where live fan-out has work, the rest after it. `ms`: how long the work took. */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<{ result: T; ms: number }> {
    await this.#look();
    return this.busy ? this.#alone.run(() => this.#timed(work, signal)) : this.#timed(work, signal);
  }

  async #timed<T>(work: () => Promise<T>, signal: AbortSignal): Promise<{ result: T; ms: number }> {
    const startedAt = performance.now();
    const result = await work();
    const ms = performance.now() - startedAt;
    if (this.busy) await sleep(ms * (1 / SHARE - 1), undefined, { signal }).catch(() => {});
    return { result, ms };
  }

  async #look(): Promise<void> {
    const now = performance.now();
    if (!this.#bus || now - this.#lookedAt < LOOK_EVERY_MS) return;
    this.#lookedAt = now;
    // Without an answer the work goes on as if nobody posted: it needs no bus.
    const depths = await this.#bus.depths().catch(() => []);
    if (depths.some(({ queue, ready, unacked }) => LIVE.has(queue) && ready + unacked > 0))
      this.#busyAt = now;
  }
}
