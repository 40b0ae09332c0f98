import { setTimeout as sleep } from 'node:timers/promises';
import { bulkhead } from 'cockatiel';
import type { Bus } from '../../bus/bus.ts';
import { FEED_LIMIT } from '../../model/feed.ts';
import type { LaneState } from '../../model/lanes.ts';
import { Throttle } from '../../util/throttle.ts';

/** Of the feeds that one transaction takes. */
interface ChunkLimits {
  /** Feeds may have no row or a thousand: chunks grow and shrink so that each takes about so many milliseconds. */
  readonly idleMs: number;
  readonly busyMs: number;
  readonly first: number;
  readonly least: number;
}

const MAX_CHUNK = 1_000;
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
  constructor(limits: ChunkLimits, most: number = MAX_CHUNK) {
    this.#limits = limits;
    this.#size = limits.first;
    this.#most = Math.max(1, Math.min(most, MAX_CHUNK));
  }

  get feeds(): number {
    return Math.min(this.#size, this.#most);
  }

  /** `busy`: others wait for what a chunk holds up. */
  took(ms: number, busy: boolean): void {
    const { idleMs, busyMs, least } = this.#limits;
    const factor = Math.min(2, Math.max(0.25, (busy ? busyMs : idleMs) / Math.max(1, ms)));
    this.#size = Math.min(MAX_CHUNK, Math.max(least, Math.round(this.#size * factor)));
  }
}

const LIVE = ['events', 'rows.live'] as const;
const POLL_MS = 100;
/** Posts come and go between two looks: what was seen lately counts. */
const BUSY_FOR_MS = 1_000;
/** Of one session's time, where live fan-out has work: the rest is left to it. */
const SHARE = 0.25;

/**
 * Leaves the database to live fan-out while that has work: then bulk work does one thing at a time and rests after it, but
 * never stops.
 */
export class LiveFirst {
  readonly #bus: Pick<Bus, 'holds' | 'throughput'> | undefined;
  readonly #alone = bulkhead(1, Number.POSITIVE_INFINITY);
  #lookedAt = Number.NEGATIVE_INFINITY;
  #busyAt = Number.NEGATIVE_INFINITY;
  #left: ReadonlyMap<string, number> | undefined;

  /** Without a bus nobody is waited for. */
  constructor(bus: Pick<Bus, 'holds' | 'throughput'> | undefined) {
    this.#bus = bus;
  }

  get busy(): boolean {
    return performance.now() - this.#busyAt < BUSY_FOR_MS;
  }

  /** The work and, where live fan-out has work, the rest after it. `ms`: how long the work took. */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<{ result: T; ms: number }> {
    await this.#look();
    return this.busy ? this.#alone.execute(() => this.#timed(work, signal)) : this.#timed(work, signal);
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
    if (!this.#bus || now - this.#lookedAt < POLL_MS) return;
    this.#lookedAt = now;
    try {
      const [holds, passed] = await Promise.all([this.#bus.holds(LIVE), this.#passed(this.#bus)]);
      if (holds || passed) this.#busyAt = now;
    } catch {
      // Without an answer the work goes on as if nobody posted: it needs no bus.
    }
  }

  /** What came and went between two looks is in no queue any more, but counted. */
  async #passed(bus: Pick<Bus, 'throughput'>): Promise<boolean> {
    const live = (await bus.throughput()).filter(({ queue }) => LIVE.some((one) => one === queue));
    const before = this.#left;
    this.#left = new Map(live.map(({ member, queue, count }) => [`${member} ${queue}`, count]));
    return before !== undefined && [...this.#left].some(([of, count]) => count > (before.get(of) ?? 0));
  }
}

interface BulkLaneContext {
  lanes(): Promise<readonly LaneState[]>;
  /** Who shares the lane's rate, this process among them. */
  sharers(): Promise<number>;
}

const LANE_POLL_MS = 250;

/**
 * What operators do to the bulk lane holds for bulk work that is in none of its queues, too: paused, it waits; slowed down, it
 * writes no more than its share of the rows.
 */
export class BulkLane {
  readonly #context: BulkLaneContext;
  readonly #pace = new Throttle();
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> = Promise.resolve();
  #state: LaneState | undefined;
  /** Of the last chunk. A feed has no more than this to begin with. */
  #rowsAFeed = FEED_LIMIT;

  constructor(context: BulkLaneContext) {
    this.#context = context;
  }

  /** Resolves when a chunk may be done, or the signal is aborted. `onPaused` is told at each look that it may not yet. */
  async ready(signal: AbortSignal, onPaused: (lane: LaneState) => void): Promise<void> {
    while (!signal.aborted) {
      await this.#look();
      const { waitMs } = this.#pace;
      if (this.#state?.paused) onPaused(this.#state);
      else if (waitMs === 0) return;
      const ms = this.#state?.paused ? LANE_POLL_MS : Math.min(waitMs, LANE_POLL_MS);
      await sleep(ms, undefined, { signal }).catch(() => {});
    }
  }

  /** Of so many feeds, those whose rows are half a second's worth of a lane that is slowed down. */
  most(feeds: number): number {
    const rows = this.#pace.most(Number.MAX_SAFE_INTEGER);
    return Math.min(feeds, Math.max(1, Math.floor(rows / this.#rowsAFeed)));
  }

  /** What a chunk has written. */
  wrote(rows: number, feeds: number): void {
    this.#pace.spend(rows);
    this.#rowsAFeed = Math.max(1, rows / Math.max(1, feeds));
  }

  #look(): Promise<void> {
    const now = performance.now();
    if (now - this.#lookedAt >= LANE_POLL_MS) {
      this.#lookedAt = now;
      this.#looking = this.#read();
    }
    return this.#looking;
  }

  async #read(): Promise<void> {
    this.#state = (await this.#context.lanes()).find(({ lane }) => lane === 'bulk');
    const throttled = this.#state?.throttled;
    const sharers = throttled ? Math.max(1, await this.#context.sharers()) : 1;
    this.#pace.setRate(throttled ? throttled.rowsPerSecond / sharers : undefined);
  }
}
