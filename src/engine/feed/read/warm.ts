import { setTimeout as sleep } from 'node:timers/promises';
import type { FeedCache } from '../../cache/cache.ts';
import type { Store } from '../../database/sharding.ts';
import { readFeed } from './read.ts';

/** A feed each so often: some tenth of what one core of the database can load. */
const INTERVAL_MS = 20;
const PAGE = 20;

/**
 * When the cache has lost everything, reads the feeds of those who read most back into it, one at a time, before
 * they ask. Returns how to end it.
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
      // A reader who meets the failure is told; here nobody waits.
      await readFeed(db, userId, { limit: PAGE }, cache).catch(() => {});
    }
  };
  if (pages) pages.onCold = (readers) => void warm(readers);
  return () => {
    round += 1;
    if (pages) pages.onCold = () => {};
  };
}
