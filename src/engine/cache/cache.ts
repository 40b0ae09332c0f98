import type { FeedEntry } from '../model/feed.ts';

/** The newest part of one feed as a cache holds it. */
export interface CachedFeed {
  /** Newest first, no post twice. */
  readonly entries: readonly FeedEntry[];
  /** The feed is complete above this post id: the feed's floor, or the oldest entry where the ring is full. */
  readonly completeAbove: number;
  /** The feed's floor when this was read. */
  readonly floor: number;
}

/**
 * The FeedCache port. A cache may forget anything at any time; what it returns has to be what the table held at
 * some moment in the last few milliseconds.
 */
export interface FeedCache {
  readonly kind: string;
  get(userId: number): CachedFeed | undefined;
  /**
   * Reads a feed through `load` and keeps the result, unless rows were written to the feed meanwhile: a refill
   * never overwrites what is newer. Several callers for one user share one load.
   */
  refill(userId: number, load: () => Promise<CachedFeed>): Promise<CachedFeed>;
  /** All that is held, for proving it: user and feed. */
  entries(): Iterable<[number, CachedFeed]>;
  close(): Promise<void>;
}
