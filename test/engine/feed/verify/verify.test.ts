import { expect, onTestFinished, test } from 'vitest';
import { openMemoryCache } from '../../../../src/engine/cache/memory/cache.ts';
import type { Database } from '../../../../src/engine/database/database.ts';
import { rebuild } from '../../../../src/engine/feed/rebuild/rebuild.ts';
import { sampleUsers, verify } from '../../../../src/engine/feed/verify/verify.ts';
import { setPushState } from '../../../../src/engine/store/celebrities.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { makeCelebrity, plantFollows, plantPosts, plantUsers } from '../feeds.ts';

const SOUND = {
  mismatched: 0,
  users: [],
  missing: 0,
  strangers: 0,
  orphans: 0,
  duplicates: 0,
  stale: 0,
  asymmetric: 0,
  repaired: 0,
};

/** Users 1 to 4. 1 follows 2 and 3, 4 follows 2. Posts 1 to 12, by 2, 3 and 4 in turn. */
async function sound(): Promise<Database> {
  const { db } = await freshDatabase();
  await plantUsers(db, 4);
  await plantFollows(db, [
    [1, 2],
    [1, 3],
    [4, 2],
  ]);
  await plantPosts(
    db,
    Array.from({ length: 12 }, (_, i) => ({ id: i + 1, authorId: 2 + (i % 3) })),
  );
  await rebuild(db, undefined);
  expect(await verify(db, undefined)).toEqual({ ...SOUND, checked: 4 });
  return db;
}

const FAULTS = [
  ['a missing row', 'delete from feed_items where user_id = 1 and post_id = 4', { missing: 1 }],
  ['a row of a stranger', 'insert into feed_items values (1, 3, 4)', { strangers: 1 }],
  ['a row of a post that never was', 'insert into feed_items values (1, 99, 2)', { orphans: 1 }],
  ['a row of a deleted post', 'update posts set deleted_at = now() where id = 2', { orphans: 1 }],
  [
    'a row with the wrong author',
    'update feed_items set author_id = 3 where user_id = 1 and post_id = 4',
    { missing: 1, orphans: 1 },
  ],
  [
    'a row with a stranger for an author',
    'update feed_items set author_id = 4 where user_id = 1 and post_id = 4',
    { missing: 1, strangers: 1 },
  ],
  ['all rows gone', 'delete from feed_items where user_id = 1', { missing: 8 }],
] as const;

test.each(FAULTS)('%s is found, and repaired', async (_, plant, faults) => {
  const db = await sound();
  await db.query(plant);
  const found = { ...SOUND, mismatched: 1, users: [1], ...faults };
  expect(await verify(db, undefined)).toEqual({ ...found, checked: 4 });
  expect(await verify(db, 1)).toEqual({ ...found, checked: 1 });
  expect(await verify(db, 2)).toEqual({ ...SOUND, checked: 1 });
  expect(await verify(db, undefined, { repair: true })).toEqual({ ...found, checked: 4, repaired: 1 });
  expect(await verify(db, undefined)).toEqual({ ...SOUND, checked: 4 });
});

test('faults of several feeds add up', async () => {
  const db = await sound();
  await db.query('delete from feed_items where post_id = 4');
  await db.query('insert into feed_items values (2, 2, 3), (3, 3, 4)');
  const found = { ...SOUND, checked: 4, mismatched: 4, users: [1, 2, 3, 4], missing: 2, strangers: 2 };
  expect(await verify(db, undefined)).toEqual(found);
  expect(await verify(db, undefined, { repair: true })).toEqual({ ...found, repaired: 4 });
  expect(await verify(db, undefined)).toEqual({ ...SOUND, checked: 4 });
});

test('a sample is of so many different users, and all of them where there are no more', async () => {
  const db = await sound();
  await db.query('delete from feed_items where post_id = 4');
  expect(await sampleUsers(db, 4)).toEqual([1, 2, 3, 4]);
  expect(await sampleUsers(db, 100)).toEqual([1, 2, 3, 4]);
  const drawn = new Set<string>();
  await expect.poll(async () => drawn.add((await sampleUsers(db, 2)).join()).size).toBe(6);
  expect(await verify(db, [2, 3])).toEqual({ ...SOUND, checked: 2 });
  expect(await verify(db, [1, 2])).toEqual({ ...SOUND, checked: 2, mismatched: 1, users: [1], missing: 1 });
});

test('nothing is promised at and below the floor', async () => {
  const db = await sound();
  await db.query('update users set feed_floor = 4 where id = 1');
  await db.query('delete from feed_items where user_id = 1 and post_id <= 2');
  await db.query('insert into feed_items values (1, 3, 4)');
  expect(await verify(db, undefined)).toEqual({ ...SOUND, checked: 4 });
  await db.query('delete from feed_items where user_id = 1 and post_id = 5');
  expect(await verify(db, 1)).toMatchObject({ missing: 1 });
});

test('rows of a celebrity are orphans, of one on the way to or from it either is right', async () => {
  const db = await sound();
  await makeCelebrity(db, 3, 'both');
  expect(await verify(db, undefined)).toEqual({ ...SOUND, checked: 4 });
  await db.query('delete from feed_items where author_id = 3 and post_id = 2');
  expect(await verify(db, undefined)).toEqual({ ...SOUND, checked: 4 });
  await setPushState(db, 3, 'pull');
  expect(await verify(db, undefined)).toEqual({
    ...SOUND,
    checked: 4,
    mismatched: 1,
    users: [1],
    orphans: 3,
  });
});

test('pairs that one side alone knows are counted and repaired', async () => {
  const db = await sound();
  await db.query('delete from followers where follower_id = 1 and followee_id = 2');
  await db.query('insert into followers (follower_id, followee_id) values (3, 1)');
  expect(await verify(db, undefined)).toEqual({ ...SOUND, checked: 4, asymmetric: 2 });
  expect(await verify(db, 3)).toEqual({ ...SOUND, checked: 1, asymmetric: 1 });
  expect(await verify(db, undefined, { repair: true })).toEqual({
    ...SOUND,
    checked: 4,
    asymmetric: 2,
    repaired: 2,
  });
  expect(await verify(db, undefined)).toEqual({ ...SOUND, checked: 4 });
});

test('a repeat in the cache is found and repaired', async () => {
  const db = await sound();
  const cache = await openMemoryCache(db);
  onTestFinished(() => cache.close());
  const entries = [7, 4, 4, 1].map((postId) => ({ postId, authorId: 2 }));
  const own = { authorId: 4, postIds: [], completeAbove: 0 };
  const load = { entries, completeAbove: 0, floor: 0, followees: [2], celebrities: [], own };
  await cache.refill(4, async () => load);
  const found = { ...SOUND, mismatched: 1, users: [4], duplicates: 1 };
  expect(await verify(db, 1, { cache })).toEqual({ ...SOUND, checked: 1 });
  expect(await verify(db, undefined, { cache, repair: true })).toEqual({ ...found, checked: 4, repaired: 1 });
  await expect.poll(() => cache.get(4)).toBeUndefined();
});

test('an unknown user is refused, an interruption says so', async () => {
  const db = await sound();
  expect(await rejection(verify(db, 9))).toMatchObject({ code: 'USER_NOT_FOUND' });
  const stopped = verify(db, undefined, { signal: AbortSignal.abort() });
  expect(await rejection(stopped)).toMatchObject({ code: 'INTERRUPTED' });
});
