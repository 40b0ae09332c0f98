import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus } from '../bus/bus.ts';
import { Slots } from '../cache/slots.ts';

/** Feeds may have no row or a thousand: chunks grow and shrink so that each takes about so long. */
const CHUNK_MS = { idle: 60, busy: 15 } as const;
const CHUNK = { first: 100, least: 10, most: 1_000 } as const;

/** How many feeds to take at once, by how long the last ones took. */
export class ChunkSize {
  #size: number = CHUNK.first;
  readonly #most: number;

  /** `most`: for a rate that would be waited for in lumps otherwise. */
  constructor(most: number = CHUNK.most) {
    this.#most = Math.max(1, Math.min(most, CHUNK.most));
  }

  get feeds(): number {
    return Math.min(this.#size, this.#most);
  }

  /** `busy`: others wait for what a chunk holds up. */
  took(ms: number, busy: boolean): void {
    const factor = Math.min(2, Math.max(0.25, CHUNK_MS[busy ? 'busy' : 'idle'] / Math.max(1, ms)));
    this.#size = Math.min(CHUNK.most, Math.max(CHUNK.least, Math.round(this.#size * factor)));
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

  /** The work and, where live fan-out has work, the rest after it. Returns how many milliseconds the work took. */
  async run(work: () => Promise<void>, signal: AbortSignal): Promise<number> {
    await this.#look();
    return this.busy ? this.#alone.run(() => this.#timed(work, signal)) : this.#timed(work, signal);
  }

  async #timed(work: () => Promise<void>, signal: AbortSignal): Promise<number> {
    const startedAt = performance.now();
    await work();
    const ms = performance.now() - startedAt;
    if (this.busy) await sleep(ms * (1 / SHARE - 1), undefined, { signal }).catch(() => {});
    return ms;
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
