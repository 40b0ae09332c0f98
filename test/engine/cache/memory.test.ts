import { expect, onTestFinished, test } from 'vitest';
import { ChangedFeeds } from '../../../src/engine/cache/invalidation.ts';
import { openMemoryCache } from '../../../src/engine/cache/memory/cache.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { cacheContract } from './contract.ts';

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
  for (let user = 1; user <= 1_100; user += 1) await cache.refill(user, async () => feed);
  expect(cache.get(1)).toBeUndefined();
  expect(cache.get(1_100)).toEqual(feed);
  expect([...cache.entries()].length).toBeLessThan(1_000);
  await cache.refill(1, async () => feed);
  const changed = new ChangedFeeds();
  changed.add(1);
  changed.add(1_100);
  await changed.notify(db);
  await expect.poll(() => [cache.get(1), cache.get(1_100)]).toEqual([undefined, undefined]);
});
