import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readFeed } from '../../../../src/engine/feed/read/read.ts';
import { rebuild } from '../../../../src/engine/feed/rebuild/rebuild.ts';
import { verify } from '../../../../src/engine/feed/verify/verify.ts';
import { FEED_LIMIT } from '../../../../src/engine/model/feed.ts';
import { MAX_ID } from '../../../../src/engine/model/ids.ts';
import { getUser } from '../../../../src/engine/store/users.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { ids, makeCelebrity, plantFollows, plantPosts, plantUsers, scroll, truth } from '../feeds.ts';

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

test('a rebuilt feed is the newest 1,000 posts, with the floor below them', async () => {
  const { db } = await freshDatabase();
  await plantUsers(db, 3);
  await plantFollows(db, [
    [1, 2],
    [1, 3],
  ]);
  await plantPosts(
    db,
    numbers(2_400).map((id) => ({ id, authorId: 2 + (id % 2) })),
  );
  expect(await rebuild(db, 1)).toMatchObject({ users: 1, items: FEED_LIMIT });
  expect((await getUser(db, 1)).feedFloor).toBe(1_400);
  const { rows } = await db.query<{ min: number; count: number }>(
    'select min(post_id), count(*) from feed_items',
  );
  expect(rows).toEqual([{ min: 1_401, count: FEED_LIMIT }]);
  expect(ids(await scroll(db, 1, 1_000))).toEqual(await truth(db, 1));
});

test('a feed that is not materialized is, after a rebuild', async () => {
  const { db } = await freshDatabase();
  await plantUsers(db, 2);
  await plantFollows(db, [[1, 2]]);
  await plantPosts(
    db,
    numbers(5).map((id) => ({ id, authorId: 2 })),
  );
  await db.query('update users set feed_floor = $1', [MAX_ID]);
  expect(ids(await scroll(db, 1, 2))).toEqual([5, 4, 3, 2, 1]);
  await rebuild(db, 1);
  expect((await getUser(db, 1)).feedFloor).toBe(0);
  expect((await readFeed(db, 1, { limit: 5 })).items.every((item) => item.source === 'pushed')).toBe(true);
});

test('whatever was in the feeds, they are the truth after, and rebuilding again changes nothing', async () => {
  const user = fc.integer({ min: 1, max: 5 });
  const history = fc.record({
    posts: fc.array(user, { maxLength: 40 }),
    follows: fc.uniqueArray(
      fc.tuple(user, user).filter(([a, b]) => a !== b),
      { selector: String },
    ),
    rows: fc.uniqueArray(fc.tuple(user, fc.integer({ min: 1, max: 50 }), user), {
      selector: ([reader, post]) => `${reader} ${post}`,
    }),
    deleted: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 5 }),
    pulled: fc.option(user, { nil: undefined }),
    floor: fc.integer({ min: 0, max: 50 }),
  });
  const { db } = await freshDatabase();
  await fc.assert(
    fc.asyncProperty(history, async ({ posts, follows, rows, deleted, pulled, floor }) => {
      await db.query('truncate users, posts, follows, followers, feed_items, celebrities');
      await plantUsers(db, 5);
      await plantPosts(
        db,
        posts.map((authorId, i) => ({ id: i + 1, authorId })),
      );
      await plantFollows(db, follows);
      if (pulled) await makeCelebrity(db, pulled, 'pull');
      await db.query('update posts set deleted_at = now() where id = any($1)', [deleted]);
      await db.query('update users set feed_floor = $1', [floor]);
      for (const row of rows) await db.query('insert into feed_items values ($1, $2, $3)', row);
      expect(await rebuild(db, undefined)).toMatchObject({ users: 5 });
      expect(await verify(db, undefined)).toMatchObject({ checked: 5, mismatched: 0 });
      for (const reader of [1, 2, 3, 4, 5])
        expect(ids(await scroll(db, reader, 7))).toEqual(await truth(db, reader));
      const contents = () => db.query('select * from feed_items order by 1, 2').then((result) => result.rows);
      const before = await contents();
      await rebuild(db, undefined);
      expect(await contents()).toEqual(before);
    }),
    { numRuns: 50 },
  );
});

test('a reader never finds the feed emptied', async () => {
  const { db } = await freshDatabase();
  await plantUsers(db, 2);
  await plantFollows(db, [[1, 2]]);
  await plantPosts(
    db,
    numbers(1_500).map((id) => ({ id, authorId: 2 })),
  );
  await rebuild(db, 1);
  let rebuilding = true;
  const rebuilds = (async () => {
    for (let i = 0; i < 20; i += 1) {
      await db.query(
        i % 2 ? 'delete from feed_items where post_id % 7 = 0' : 'update users set feed_floor = 1450',
      );
      await rebuild(db, 1);
    }
    rebuilding = false;
  })();
  const lengths = new Set<number>();
  while (rebuilding) {
    const { rows } = await db.query<{ count: number }>('select count(*) from feed_items where user_id = 1');
    lengths.add(rows[0]!.count);
  }
  await rebuilds;
  expect(Math.min(...lengths)).toBeGreaterThan(800);
});

test('a rehearsal changes nothing, an unknown user is refused, an interruption says how far it came', async () => {
  const { db } = await freshDatabase();
  await plantUsers(db, 2);
  await plantFollows(db, [[1, 2]]);
  await plantPosts(db, [{ id: 1, authorId: 2 }]);
  expect(await rebuild(db, undefined, { dryRun: true })).toMatchObject({ users: 2, items: 1 });
  expect((await db.query('select from feed_items')).rowCount).toBe(0);
  expect(await rejection(rebuild(db, 9))).toMatchObject({ code: 'USER_NOT_FOUND' });
  const stopped = rebuild(db, undefined, { signal: AbortSignal.abort() });
  expect(await rejection(stopped)).toMatchObject({ code: 'INTERRUPTED' });
});
