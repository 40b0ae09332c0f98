import { LRUCache } from 'lru-cache';
import type { Database } from '../../store/database.ts';
import type { CachedFeed, FeedCache } from '../cache.ts';
import { INVALIDATE_CHANNEL, slotOf, slotsOfPayload } from '../invalidation.ts';

/** Entries of all feeds together: about 100 bytes each. */
const MAX_ENTRIES = 1_000_000;

/** Feeds in this process's memory, forgotten when the database says that they changed. */
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
    // Nothing is kept while nobody would say that it changed.
    onLost: () => {
      listening = false;
      forgetAll();
    },
  });

  return {
    kind: 'memory',
    get: (userId) => feeds.get(userId),
    refill(userId, read) {
      const running = loading.get(userId);
      if (running) return running.result;
      if (!listening) return read();
      track(userId);
      const load = { stale: false, result: Promise.resolve().then(read) };
      loading.set(userId, load);
      load.result.then(
        (feed) => {
          if (load.stale) return;
          loading.delete(userId);
          feeds.set(userId, feed);
        },
        () => {
          if (!load.stale) loading.delete(userId);
        },
      );
      return load.result;
    },
    entries: () => feeds.entries(),
    async close() {
      await listener.close();
      forgetAll();
    },
  };
}
