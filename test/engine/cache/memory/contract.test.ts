import { expect, onTestFinished, test } from 'vitest';
import { openMemoryCache } from '../../../../src/engine/cache/memory/cache.ts';
import { adoptDatabase } from '../../../../src/engine/identity/identity.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { cacheContract, change, heldFeeds, loaded } from '../contract.ts';

async function open() {
  const { db } = await freshDatabase();
  const cache = await openMemoryCache(db);
  onTestFinished(() => cache.close());
  const cutOff = () =>
    db.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'feedctl listener'`,
    );
  return { cache, db, cutOff };
}

cacheContract('memory', open);

test('a full cache forgets the feeds that were not asked for longest, and still hears of the others', async () => {
  const { cache, db } = await open();
  const entries = Array.from({ length: 1_000 }, (_, i) => ({ postId: 1_000 - i, authorId: 1 }));
  const feed = { entries, completeAbove: 0, floor: 0 };
  const load = async () => ({ ...loaded(), ...feed });
  for (let user = 1; user <= 1_100; user += 1) await cache.refill(user, load);
  expect(await cache.get(1)).toBeUndefined();
  expect(await cache.get(1_100)).toEqual(feed);
  expect((await heldFeeds(cache)).length).toBeLessThan(1_000);
  await cache.refill(1, load);
  await change(cache, db, 1, 1_100);
  await expect.poll(() => heldFeeds(cache, [1, 1_100])).toEqual([]);
});

test('starts empty in another lineage of the database, and keeps again after', async () => {
  const { cache, db } = await open();
  await cache.refill(1, async () => loaded(1));
  await adoptDatabase(db);
  await expect.poll(() => heldFeeds(cache)).toEqual([]);
  const kept = async () => {
    await cache.refill(1, async () => loaded(2));
    return cache.get(1);
  };
  await expect.poll(kept).toMatchObject({ entries: [{ postId: 2 }] });
});

test('forgets everything while it cannot hear of changes, and keeps again after', async () => {
  const { cache, db, cutOff } = await open();
  await cache.refill(1, async () => loaded(1));
  const during = Promise.withResolvers<ReturnType<typeof loaded>>();
  const refill = cache.refill(2, () => during.promise);
  await cutOff();
  await expect.poll(() => cache.get(1)).toBeUndefined();
  during.resolve(loaded(2));
  await refill;
  expect(await cache.get(2)).toBeUndefined();
  const kept = async () => {
    await cache.refill(1, async () => loaded(1));
    return cache.get(1);
  };
  await expect.poll(kept).toMatchObject({ entries: [{ postId: 1 }] });
  await change(cache, db, 1);
  await expect.poll(() => cache.get(1)).toBeUndefined();
});
