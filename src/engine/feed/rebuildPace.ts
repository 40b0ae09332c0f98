import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus } from '../bus/bus.ts';

/** Feeds may have no row or a thousand: chunks grow and shrink so that each takes about so long. */
const CHUNK_MS = 60;
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

  took(ms: number): void {
    const factor = Math.min(2, Math.max(0.25, CHUNK_MS / Math.max(1, ms)));
    this.#size = Math.min(CHUNK.most, Math.max(CHUNK.least, Math.round(this.#size * factor)));
  }
}

const LIVE = new Set(['events', 'rows.live']);
const LOOK_EVERY_MS = 100;
/** Posts come and go between two looks: what was seen lately counts. */
const BUSY_FOR_MS = 1_000;
/** Of the time, where live fan-out has work: the rest is left to it. */
const SHARE = 0.33;

/** Leaves the database to live fan-out while that has work: bulk work rests between chunks, but never stops. */
export class LiveFirst {
  readonly #bus: Bus | undefined;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #busyAt = Number.NEGATIVE_INFINITY;

  constructor(bus: Bus | undefined) {
    this.#bus = bus;
  }

  /** After a chunk that took so long. Resolves early when the signal aborts. */
  async rest(tookMs: number, signal?: AbortSignal): Promise<void> {
    if (!this.#bus) return;
    const now = performance.now();
    if (now - this.#lookedAt >= LOOK_EVERY_MS) {
      this.#lookedAt = now;
      // Without an answer the work goes on as if nobody posted: it needs no bus.
      const depths = await this.#bus.depths().catch(() => []);
      if (depths.some(({ queue, ready, unacked }) => LIVE.has(queue) && ready + unacked > 0))
        this.#busyAt = now;
    }
    if (now - this.#busyAt < BUSY_FOR_MS)
      await sleep((tookMs * (1 - SHARE)) / SHARE, undefined, signal && { signal }).catch(() => {});
  }
}
