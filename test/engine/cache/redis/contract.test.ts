import { describe, expect, onTestFinished, test } from 'vitest';
import { openRedisCache } from '../../../../src/engine/cache/redis/cache.ts';
import { readFeed } from '../../../../src/engine/feed/read/read.ts';
import { rebuild } from '../../../../src/engine/feed/rebuild/rebuild.ts';
import { verify } from '../../../../src/engine/feed/verify/verify.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { findServer } from '../../../support/server.ts';
import { plantFollows, plantPosts, plantUsers } from '../../feed/feeds.ts';
import { cacheContract, loaded } from '../contract.ts';

const url = await findServer('redis');

async function open() {
  const { db } = await freshDatabase();
  const cache = await openRedisCache(url!, db, silentLog);
  onTestFinished(() => cache.close());
  return { cache, db };
}

describe.skipIf(!url)('with a Redis', () => {
  cacheContract('redis', open);

  test('what one process keeps another one reads, and forgets for both', async () => {
    const { cache, db } = await open();
    const other = await openRedisCache(url!, db, silentLog);
    onTestFinished(() => other.close());
    await cache.refill(1, async () => loaded(2, 1));
    expect(await other.get(1)).toMatchObject({ entries: [{ postId: 2 }, { postId: 1 }] });
    await other.forget([1]);
    expect(await cache.get(1)).toBeUndefined();
  });

  test('a text that was loaded before an edit or a deletion is not kept after it', async () => {
    const { cache } = await open();
    const entry = { postId: 5, authorId: 1 };
    const version = (n: number) => ({
      id: 5,
      authorId: 1,
      body: `text ${n}`,
      createdAt: new Date(0),
      version: n,
      deleted: false,
    });
    const nothing = async () => [];
    const read = async () => (await cache.pages!.posts([entry], nothing))?.get(5)?.body;
    const late = (meanwhile: () => Promise<unknown>) =>
      cache.pages!.posts([entry], async () => {
        await meanwhile();
        return [version(1)];
      });
    await late(() => cache.edited(entry, async () => version(2)));
    expect(await read()).toBe('text 2');
    await cache.edited(entry, async () => version(1));
    expect(await read()).toBe('text 2');
    await cache.deleted(entry);
    await cache.edited(entry, async () => version(3));
    expect(await read()).toBeUndefined();
  });

  test('a post that is made while its author’s posts are loaded is among them', async () => {
    const { cache } = await open();
    await cache.refill(1, async () => ({
      ...loaded(),
      own: { authorId: 1, postIds: [1], completeAbove: 0 },
    }));
    const query = { userId: 1, before: Number.MAX_SAFE_INTEGER, count: 9 };
    const own = async () => {
      const page = await cache.pages!.page(query, async () => []);
      return typeof page === 'string' ? page : page.entries.map((entry) => entry.postId);
    };
    expect(await own()).toEqual([1]);
    await cache.posted([{ postId: 3, authorId: 1 }]);
    await cache.posted([3, 2].map((postId) => ({ postId, authorId: 1 })));
    expect(await own()).toEqual([3, 2, 1]);
    await cache.refill(2, async () => {
      await cache.posted([{ postId: 7, authorId: 2 }]);
      return { ...loaded(), own: { authorId: 2, postIds: [6], completeAbove: 0 } };
    });
    const page = await cache.pages!.page({ ...query, userId: 2 }, async () => []);
    expect(page).toMatchObject({ entries: [{ postId: 7, source: 'own' }, { postId: 6 }] });
  });

  test('a page that is the same is read once; whoever changes it, in another process, it is read anew', async () => {
    const { cache, db } = await open();
    const other = await openRedisCache(url!, db, silentLog);
    onTestFinished(() => other.close());
    await plantUsers(db, 3);
    await plantFollows(db, [
      [1, 2],
      [1, 3],
    ]);
    await plantPosts(
      db,
      [1, 2, 3].map((id) => ({ id, authorId: 2 })),
    );
    await rebuild(db, undefined);
    const read = async () => (await readFeed(db, 1, { limit: 9 }, cache)).items;
    const texts = async () => (await read()).map((item) => item.body);
    await read();
    const page = await read();
    expect(await read()).toBe(page);
    const entry = { postId: 3, authorId: 2 };
    await db.query(`update posts set body = 'edited', version = 2 where id = 3`);
    expect(await read(), 'before the change is reported').toBe(page);
    await other.edited(entry, async () => {
      return { id: 3, authorId: 2, body: 'edited', createdAt: new Date(0), version: 2 };
    });
    expect((await texts())[0]).toBe('edited');
    await db.query('update posts set deleted_at = now() where id = 3');
    await other.deleted(entry);
    expect(await texts()).toHaveLength(2);
    await db.query('delete from follows where followee_id = 2');
    await other.forget([1]);
    expect(await texts()).toEqual([]);
    await db.query('insert into follows values (1, 2)');
    await other.forget([1]);
    expect(await texts()).toHaveLength(2);
    const again = await read();
    expect(again).not.toBe(page);
    expect(await read()).toBe(again);
    await db.transaction((session) => other.resetting(session));
    expect(await texts(), 'in a new epoch').toHaveLength(2);
  });

  test('verify finds what is held and should not be, and what should be and is not', async () => {
    const { cache, db } = await open();
    await plantUsers(db, 3);
    await plantFollows(db, [[1, 2]]);
    await plantPosts(
      db,
      [1, 2, 3].map((id) => ({ id, authorId: 2 })),
    );
    await rebuild(db, undefined);
    await readFeed(db, 1, { limit: 9 }, cache);
    expect(await verify(db, undefined, { cache })).toMatchObject({ mismatched: 0, missing: 0 });
    await cache.forget([1]);
    const entries = [2, 1].map((postId) => ({ postId, authorId: 2 }));
    const stranger = { postId: 9, authorId: 3 };
    await cache.refill(1, async () => ({ ...loaded(), entries: [stranger, ...entries] }));
    const found = { mismatched: 1, missing: 1, strangers: 1, duplicates: 0 };
    expect(await verify(db, 1, { cache })).toMatchObject(found);
    expect(await verify(db, undefined, { cache, repair: true })).toMatchObject({ ...found, repaired: 1 });
    expect(await verify(db, undefined, { cache })).toMatchObject({ mismatched: 0 });
  });
});
