import { LRUCache } from 'lru-cache';
import type { Database, Listener } from '../../database/database.ts';
import { Identity } from '../../identity/identity.ts';
import { listenConfirmed } from '../../identity/listen.ts';
import { sampleOf } from '../../util/sample.ts';
import type { CachedFeed, CacheHealth, CacheStats, FeedCache, LoadedFeed } from '../cache.ts';
import { INVALIDATE_CHANNEL, notifiedChanges, slotOf, slotsOfPayload } from '../invalidation.ts';

/** Maximum number of entries of all feeds together, about 100 bytes each. */
const MAX_ENTRIES = 1_000_000;

/**
 * Opens the cache of this process. Notifications of the database remove feeds that changed. It starts empty
 * in another lineage. `identity`: read here where the caller has none.
 */
export async function openMemoryCache(db: Database, identity?: Identity): Promise<FeedCache> {
  const feeds = new MemoryFeeds();
  const known = identity ?? (await Identity.open(db));
  const listener = await listenConfirmed(db, known, [INVALIDATE_CHANNEL], {
    onNotify: (_, payload) => feeds.forgetSlots(payload),
    onListening: () => feeds.listen(true),
    onLost: () => feeds.listen(false),
  });
  return memoryCache(feeds, listener);
}

const memoryCache = (feeds: MemoryFeeds, listener: Listener): FeedCache => ({
  ...notifiedChanges,
  get: async (userId) => feeds.get(userId),
  refill: (userId, load) => feeds.refill(userId, load),
  async *entries(userIds) {
    yield* feeds.entries(userIds);
  },
  sample: (count) => sampleOf([...feeds.users()], count),
  discard: async (userId) => feeds.forget(userId),
  stats: () => feeds.stats(),
  health: () => feeds.health(),
  async close() {
    await listener.close();
    feeds.forgetAll();
  },
});

interface Load {
  /** The feed has changed since the load began. */
  stale: boolean;
  readonly result: Promise<CachedFeed>;
}

class MemoryFeeds {
  readonly #bySlot = new Map<number, Set<number>>();
  readonly #feeds = new LRUCache<number, CachedFeed>({
    maxSize: MAX_ENTRIES,
    sizeCalculation: (feed) => feed.entries.length + 1,
    dispose: (_, userId, reason) => {
      if (reason === 'evict') this.#bySlot.get(slotOf(userId))?.delete(userId);
    },
  });
  readonly #loading = new Map<number, Load>();
  #listening = false;
  readonly #counts = { hits: 0, misses: 0, refills: 0, refused: 0 };

  get(userId: number): CachedFeed | undefined {
    const feed = this.#feeds.get(userId);
    this.#counts[feed ? 'hits' : 'misses'] += 1;
    return feed;
  }

  async refill(userId: number, read: () => Promise<LoadedFeed>): Promise<CachedFeed> {
    const shared = this.#loading.get(userId);
    if (shared) return shared.result;
    this.#counts.refills += 1;
    if (!this.#listening) {
      this.#counts.refused += 1;
      return read();
    }
    this.#track(userId);
    const load: Load = { stale: false, result: Promise.resolve().then(read) };
    this.#loading.set(userId, load);
    load.result.then(
      (feed) => this.#keep(userId, load, feed),
      () => {
        if (!load.stale) this.#loading.delete(userId);
      },
    );
    return load.result;
  }

  *entries(userIds: readonly number[] = [...this.#feeds.keys()]): Generator<[number, CachedFeed]> {
    for (const userId of userIds) {
      const feed = this.#feeds.peek(userId);
      if (feed) yield [userId, feed];
    }
  }

  /** The most recently read first. */
  users(): Iterable<number> {
    return this.#feeds.keys();
  }

  /** Starts to keep feeds, or stops: without notifications a kept feed could be out of date. */
  listen(listening: boolean): void {
    this.#listening = listening;
    this.forgetAll();
  }

  forgetSlots(payload: string): void {
    if (this.#bySlot.size === 0) return;
    for (const slot of slotsOfPayload(payload)) {
      for (const userId of this.#bySlot.get(slot) ?? []) this.forget(userId);
      this.#bySlot.delete(slot);
    }
  }

  forget(userId: number): void {
    this.#feeds.delete(userId);
    const load = this.#loading.get(userId);
    if (load) load.stale = true;
    this.#loading.delete(userId);
  }

  forgetAll(): void {
    for (const load of this.#loading.values()) load.stale = true;
    this.#loading.clear();
    this.#feeds.clear();
    this.#bySlot.clear();
  }

  stats(): CacheStats {
    return { ...this.#counts, postHits: 0, postMisses: 0, checks: 0, failures: 0 };
  }

  health(): CacheHealth {
    return { version: '', ready: this.#listening, detail: 'in the memory of this process' };
  }

  #keep(userId: number, load: Load, feed: CachedFeed): void {
    if (load.stale) {
      this.#counts.refused += 1;
      return;
    }
    this.#loading.delete(userId);
    const { entries, completeAbove, floor } = feed;
    this.#feeds.set(userId, { entries, completeAbove, floor });
  }

  #track(userId: number): void {
    const users = this.#bySlot.get(slotOf(userId)) ?? new Set();
    this.#bySlot.set(slotOf(userId), users.add(userId));
  }
}
