import { LRUCache } from 'lru-cache';
import type { Database } from '../../database/database.ts';
import type { CachedFeed, FeedCache } from '../cache.ts';
import { INVALIDATE_CHANNEL, notifiedChanges, slotOf, slotsOfPayload } from '../invalidation.ts';

/** Maximum number of entries of all feeds together, about 100 bytes each. */
const MAX_ENTRIES = 1_000_000;

/**
 * Feeds in the memory of this process. A notification of the database removes those that changed.
 */
export async function openMemoryCache(db: Database): Promise<FeedCache> {
  const feeds = new LRUCache<number, CachedFeed>({
    maxSize: MAX_ENTRIES,
    sizeCalculation: (feed) => feed.entries.length + 1,
    dispose: (_, userId, reason) => {
      if (reason === 'evict') bySlot.get(slotOf(userId))?.delete(userId);
    },
  });
  const bySlot = new Map<number, Set<number>>();
  let listening = false;
  let hits = 0;
  let misses = 0;
  let refills = 0;
  let refused = 0;
  const loading = new Map<number, { stale: boolean; result: Promise<CachedFeed> }>();

  const forget = (userId: number) => {
    feeds.delete(userId);
    const load = loading.get(userId);
    if (load) load.stale = true;
    loading.delete(userId);
  };
  const forgetAll = () => {
    for (const load of loading.values()) load.stale = true;
    loading.clear();
    feeds.clear();
    bySlot.clear();
  };
  const track = (userId: number) => {
    const users = bySlot.get(slotOf(userId)) ?? new Set();
    bySlot.set(slotOf(userId), users.add(userId));
  };
  const listener = await db.listen([INVALIDATE_CHANNEL], {
    onNotify: (_, payload) => {
      if (bySlot.size === 0) return;
      for (const slot of slotsOfPayload(payload)) {
        for (const userId of bySlot.get(slot) ?? []) forget(userId);
        bySlot.delete(slot);
      }
    },
    onListening: () => {
      forgetAll();
      listening = true;
    },
    // Without notifications a kept feed could be out of date.
    onLost: () => {
      listening = false;
      forgetAll();
    },
  });

  return {
    ...notifiedChanges,
    async get(userId) {
      const feed = feeds.get(userId);
      if (feed) hits += 1;
      else misses += 1;
      return feed;
    },
    async refill(userId, read) {
      const shared = loading.get(userId);
      if (shared) return shared.result;
      refills += 1;
      if (!listening) {
        refused += 1;
        return read();
      }
      track(userId);
      const load = { stale: false, result: Promise.resolve().then(read) };
      loading.set(userId, load);
      load.result.then(
        (feed) => {
          if (load.stale) {
            refused += 1;
            return;
          }
          loading.delete(userId);
          feeds.set(userId, { entries: feed.entries, completeAbove: feed.completeAbove, floor: feed.floor });
        },
        () => {
          if (!load.stale) loading.delete(userId);
        },
      );
      return load.result;
    },
    async *entries(userIds) {
      for (const userId of userIds ?? [...feeds.keys()]) {
        const feed = feeds.peek(userId);
        if (feed) yield [userId, feed];
      }
    },
    stats: () => ({ hits, misses, refills, refused, postHits: 0, postMisses: 0, checks: 0, failures: 0 }),
    health: () => ({ version: '', ready: listening, detail: 'in the memory of this process' }),
    async close() {
      await listener.close();
      forgetAll();
    },
  };
}
