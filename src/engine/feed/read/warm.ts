import { setTimeout as sleep } from 'node:timers/promises';
import type { FeedCache } from '../../cache/cache.ts';
import type { Store } from '../../database/sharding.ts';
import { readFeed } from './read.ts';

/** Interval between two feeds: about a tenth of what one core of the database can load. */
const INTERVAL_MS = 20;
const PAGE = 20;

/**
 * Refills a cache that has lost everything with the feeds of the most active readers, one at a
 * time. Returns a function that stops it.
 */
export function keepWarm(db: Store, cache: FeedCache): () => void {
  const { pages } = cache;
  let round = 0;
  const warm = async (readers: readonly number[]) => {
    round += 1;
    const mine = round;
    for (const userId of readers) {
      await sleep(INTERVAL_MS, undefined, { ref: false });
      if (round !== mine) return;
      // Readers see such a failure themselves. Warming ignores it.
      await readFeed(db, userId, { limit: PAGE }, cache).catch(() => {});
    }
  };
  if (pages) pages.onCold = (readers) => void warm(readers);
  return () => {
    round += 1;
    if (pages) pages.onCold = () => {};
  };
}
