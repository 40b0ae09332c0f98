import { setTimeout as sleep } from 'node:timers/promises';
import { FEED_LIMIT } from '../../model/feed.ts';
import type { LaneState } from '../../model/lanes.ts';
import { Throttle } from '../../util/throttle.ts';

interface BulkLaneContext {
  lanes(): Promise<readonly LaneState[]>;
  /** Returns the number of processes that share the lane's rate, this one included. */
  sharers(): Promise<number>;
}

/** Milliseconds between two reads of the lane: a paused or throttled rebuild waits this long. */
const LANE_POLL_MS = 250;

/**
 * Applies the pause and the throttle of the bulk lane to a rebuild, whose work is in none of the
 * lane's queues. A paused lane stops the rebuild. A throttled lane allows it a worker's share of the
 * rows.
 */
export class BulkLaneGate {
  readonly #context: BulkLaneContext;
  readonly #throttle = new Throttle();
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> = Promise.resolve();
  #state: LaneState | undefined;
  /** Rows per feed of the last chunk. A new feed has at most this many. */
  #rowsPerFeed = FEED_LIMIT;

  constructor(context: BulkLaneContext) {
    this.#context = context;
  }

  /**
   * Resolves when a chunk may begin, or the signal aborts. Calls `onPaused` at each check of a
   * paused lane.
   */
  async ready(signal: AbortSignal, onPaused: (lane: LaneState) => void): Promise<void> {
    while (!signal.aborted) {
      await this.#refresh();
      const { waitMs } = this.#throttle;
      if (this.#state?.paused) onPaused(this.#state);
      else if (waitMs === 0) return;
      const ms = this.#state?.paused ? LANE_POLL_MS : Math.min(waitMs, LANE_POLL_MS);
      await sleep(ms, undefined, { signal }).catch(() => {});
    }
  }

  /** Returns how many of these feeds a chunk may have: half a second's rows of a throttled lane. */
  max(feeds: number): number {
    const rows = this.#throttle.maxBatch(Number.MAX_SAFE_INTEGER);
    return Math.min(feeds, Math.max(1, Math.floor(rows / this.#rowsPerFeed)));
  }

  /** Records the rows of a chunk. */
  wrote(rows: number, feeds: number): void {
    this.#throttle.spend(rows);
    this.#rowsPerFeed = Math.max(1, rows / Math.max(1, feeds));
  }

  #refresh(): Promise<void> {
    const now = performance.now();
    if (now - this.#readAt >= LANE_POLL_MS) {
      this.#readAt = now;
      this.#reading = this.#read();
    }
    return this.#reading;
  }

  async #read(): Promise<void> {
    this.#state = (await this.#context.lanes()).find(({ lane }) => lane === 'bulk');
    const throttled = this.#state?.throttled;
    const sharers = throttled ? Math.max(1, await this.#context.sharers()) : 1;
    this.#throttle.setRate(throttled ? throttled.rowsPerSecond / sharers : undefined);
  }
}
