import { describe, expect, test } from 'vitest';
import type { CachedFeed, FeedCache } from '../../../src/engine/cache/cache.ts';
import { ChangedFeeds } from '../../../src/engine/cache/invalidation.ts';
import type { Database } from '../../../src/engine/store/database.ts';

const feed = (...posts: number[]): CachedFeed => ({
  entries: posts.map((postId) => ({ postId, authorId: 1 })),
  completeAbove: 0,
  floor: 0,
});

/** A load that ends when the test says so. */
function controlled() {
  const { promise, resolve, reject } = Promise.withResolvers<CachedFeed>();
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

async function change(db: Database, ...users: number[]): Promise<void> {
  await db.transaction(async (session) => {
    const changed = new ChangedFeeds();
    for (const user of users) changed.add(user);
    await changed.notify(session);
  });
}

/** What every driver of the FeedCache port has to do. */
export function cacheContract(
  name: string,
  open: () => Promise<{
    cache: FeedCache;
    db: Database;
    /** Cuts the cache off from the changes, until it notices. */
    cutOff: () => Promise<unknown>;
  }>,
): void {
  describe(`the ${name} cache`, () => {
    test('keeps what a refill read', async () => {
      const { cache } = await open();
      expect(cache.get(1)).toBeUndefined();
      expect(await cache.refill(1, async () => feed(2, 1))).toEqual(feed(2, 1));
      expect(cache.get(1)).toEqual(feed(2, 1));
      expect([...cache.entries()]).toEqual([[1, feed(2, 1)]]);
      expect(cache.get(2)).toBeUndefined();
    });

    test('callers at the same time share one load', async () => {
      const { cache } = await open();
      const one = controlled();
      const refills = Array.from({ length: 5 }, () => cache.refill(1, one.load));
      const other = cache.refill(2, async () => feed(9));
      one.resolve(feed(1));
      expect(await Promise.all(refills)).toEqual(Array(5).fill(feed(1)));
      expect(one.calls()).toBe(1);
      expect(await other).toEqual(feed(9));
    });

    test('a load that fails is kept from nobody', async () => {
      const { cache } = await open();
      const failed = () => Promise.reject(new Error('away'));
      await expect(cache.refill(1, failed)).rejects.toThrow('away');
      expect(cache.get(1)).toBeUndefined();
      expect(await cache.refill(1, async () => feed(1))).toEqual(feed(1));
    });

    test('a change in the database makes it forget that feed, when it is committed', async () => {
      const { cache, db } = await open();
      await cache.refill(1, async () => feed(1));
      await cache.refill(2, async () => feed(2));
      await db.rehearse(async (session) => {
        const changed = new ChangedFeeds();
        changed.add(2);
        await changed.notify(session);
      });
      await change(db, 1);
      await expect.poll(() => cache.get(1)).toBeUndefined();
      expect(cache.get(2)).toEqual(feed(2));
    });

    test('a change to very many feeds makes it forget them all', async () => {
      const { cache, db } = await open();
      const users = Array.from({ length: 5_000 }, (_, i) => i + 1);
      await Promise.all(users.map((user) => cache.refill(user, async () => feed(user))));
      await change(db, ...users);
      await expect.poll(() => [...cache.entries()]).toEqual([]);
    });

    test('a refill never overwrites what changed while it was read', async () => {
      const { cache, db } = await open();
      await cache.refill(2, async () => feed(2));
      const stale = controlled();
      const refill = cache.refill(1, stale.load);
      // When the second is forgotten, the change of the first has been heard too.
      await change(db, 1, 2);
      await expect.poll(() => cache.get(2)).toBeUndefined();
      const fresh = cache.refill(1, async () => feed(11, 10));
      expect(await fresh).toEqual(feed(11, 10));
      stale.resolve(feed(10));
      await refill;
      expect(cache.get(1)).toEqual(feed(11, 10));
    });

    test('a load that failed after a change leaves the newer one in place', async () => {
      const { cache, db } = await open();
      await cache.refill(2, async () => feed(2));
      const stale = controlled();
      const refill = cache.refill(1, stale.load);
      await change(db, 1, 2);
      await expect.poll(() => cache.get(2)).toBeUndefined();
      const newer = controlled();
      const fresh = cache.refill(1, newer.load);
      stale.reject(new Error('away'));
      await expect(refill).rejects.toThrow('away');
      const shared = cache.refill(1, newer.load);
      newer.resolve(feed(3));
      expect(await Promise.all([fresh, shared])).toEqual([feed(3), feed(3)]);
      expect(newer.calls()).toBe(1);
      expect(cache.get(1)).toEqual(feed(3));
    });

    test('forgets everything while it cannot hear of changes, and keeps again after', async () => {
      const { cache, db, cutOff } = await open();
      await cache.refill(1, async () => feed(1));
      const during = controlled();
      const refill = cache.refill(2, during.load);
      await cutOff();
      await expect.poll(() => cache.get(1)).toBeUndefined();
      during.resolve(feed(2));
      await refill;
      expect(cache.get(2)).toBeUndefined();
      const kept = async () => {
        await cache.refill(1, async () => feed(1));
        return cache.get(1);
      };
      await expect.poll(kept, { timeout: 20_000 }).toEqual(feed(1));
      await change(db, 1);
      await expect.poll(() => cache.get(1)).toBeUndefined();
    });

    test('keeps nothing after closing', async () => {
      const { cache } = await open();
      await cache.refill(1, async () => feed(1));
      await cache.close();
      expect(cache.get(1)).toBeUndefined();
      expect(await cache.refill(1, async () => feed(1))).toEqual(feed(1));
      expect(cache.get(1)).toBeUndefined();
    });
  });
}
