import { describe, expect, test } from 'vitest';
import type { CachedFeed, FeedCache, LoadedFeed } from '../../../src/engine/cache/cache.ts';
import type { Database } from '../../../src/engine/database/database.ts';

const AUTHOR = 1;
/** A cached feed. */
const feed = (...posts: number[]): CachedFeed => ({
  entries: posts.map((postId) => ({ postId, authorId: AUTHOR })),
  completeAbove: 0,
  floor: 0,
});
/** The same feed as a load returns it. */
export const loaded = (...posts: number[]): LoadedFeed => ({
  ...feed(...posts),
  followees: [AUTHOR],
  celebrities: [],
  own: { authorId: 0, postIds: [], completeAbove: 0 },
});

/** A load that the test resolves or rejects. */
function controlled() {
  const { promise, resolve, reject } = Promise.withResolvers<LoadedFeed>();
  let calls = 0;
  return {
    load: () => {
      calls += 1;
      return promise;
    },
    calls: () => calls,
    resolve,
    reject,
  };
}

export async function change(cache: FeedCache, db: Database, ...users: number[]): Promise<void> {
  await db.transaction((session) => cache.changing(session, users));
  await cache.forget(users);
}

export async function heldFeeds(cache: FeedCache, users?: number[]): Promise<[number, CachedFeed][]> {
  const feeds: [number, CachedFeed][] = [];
  for await (const entry of cache.entries(users)) feeds.push(entry);
  return feeds;
}

/** Tests that every driver of the FeedCache port has to pass. */
export function cacheContract(name: string, open: () => Promise<{ cache: FeedCache; db: Database }>): void {
  describe(`the ${name} cache`, () => {
    test('keeps what a refill read', async () => {
      const { cache } = await open();
      expect(await cache.get(1)).toBeUndefined();
      expect(await cache.refill(1, async () => loaded(2, 1))).toMatchObject(feed(2, 1));
      expect(await cache.get(1)).toMatchObject(feed(2, 1));
      expect(await heldFeeds(cache, [1, 2])).toEqual([[1, feed(2, 1)]]);
      expect(await cache.get(2)).toBeUndefined();
    });

    test('callers at the same time share one load', async () => {
      const { cache } = await open();
      const one = controlled();
      const refills = Array.from({ length: 5 }, () => cache.refill(1, one.load));
      const other = cache.refill(2, async () => loaded(9));
      one.resolve(loaded(1));
      for (const refill of refills) expect(await refill).toMatchObject(feed(1));
      expect(one.calls()).toBe(1);
      expect(await other).toMatchObject(feed(9));
    });

    test('a load that fails is kept from nobody', async () => {
      const { cache } = await open();
      const failed = () => Promise.reject(new Error('unavailable'));
      await expect(cache.refill(1, failed)).rejects.toThrow('unavailable');
      expect(await cache.get(1)).toBeUndefined();
      expect(await cache.refill(1, async () => loaded(1))).toMatchObject(feed(1));
    });

    test('a change in the database makes it forget that feed, when it is committed', async () => {
      const { cache, db } = await open();
      await cache.refill(1, async () => loaded(1));
      await cache.refill(2, async () => loaded(2));
      await db.rehearse((session) => cache.changing(session, [2]));
      await change(cache, db, 1);
      await expect.poll(() => cache.get(1)).toBeUndefined();
      expect(await cache.get(2)).toMatchObject(feed(2));
    });

    test('a change to very many feeds makes it forget them all', async () => {
      const { cache, db } = await open();
      const users = Array.from({ length: 5_000 }, (_, i) => i + 1);
      await Promise.all(users.map((user) => cache.refill(user, async () => loaded(user))));
      await change(cache, db, ...users);
      await expect.poll(() => heldFeeds(cache, users)).toEqual([]);
    });

    test('a refill never overwrites what changed while it was read', async () => {
      const { cache, db } = await open();
      await cache.refill(2, async () => loaded(2));
      const stale = controlled();
      const refill = cache.refill(1, stale.load);
      // Changes are processed in order: when user 2 is forgotten, user 1 was too.
      await change(cache, db, 1, 2);
      await expect.poll(() => cache.get(2)).toBeUndefined();
      const fresh = cache.refill(1, async () => loaded(11, 10));
      expect(await fresh).toMatchObject(feed(11, 10));
      stale.resolve(loaded(10));
      await refill;
      expect(await cache.get(1)).toMatchObject(feed(11, 10));
    });

    test('a load that failed after a change leaves the newer one in place', async () => {
      const { cache, db } = await open();
      await cache.refill(2, async () => loaded(2));
      const stale = controlled();
      const refill = cache.refill(1, stale.load);
      await change(cache, db, 1, 2);
      await expect.poll(() => cache.get(2)).toBeUndefined();
      const newer = controlled();
      const fresh = cache.refill(1, newer.load);
      stale.reject(new Error('unavailable'));
      await expect(refill).rejects.toThrow('unavailable');
      const shared = cache.refill(1, newer.load);
      newer.resolve(loaded(3));
      expect(await Promise.all([fresh, shared])).toMatchObject([feed(3), feed(3)]);
      expect(newer.calls()).toBe(1);
      expect(await cache.get(1)).toMatchObject(feed(3));
    });

    test('keeps nothing after closing', async () => {
      const { cache } = await open();
      await cache.refill(1, async () => loaded(1));
      await cache.close();
      expect(await cache.get(1)).toBeUndefined();
      expect(await cache.refill(1, async () => loaded(1))).toMatchObject(feed(1));
      expect(await cache.get(1)).toBeUndefined();
    });
  });
}
