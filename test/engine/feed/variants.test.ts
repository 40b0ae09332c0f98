import { expect, test } from 'vitest';
import type { Database } from '../../../src/engine/database/database.ts';
import { citusRebuild } from '../../../src/engine/feed/rebuild/citus.ts';
import { postgresRebuild } from '../../../src/engine/feed/rebuild/postgres.ts';
import { citusVerify } from '../../../src/engine/feed/verify/citus.ts';
import { postgresVerify } from '../../../src/engine/feed/verify/postgres.ts';
import type { FeedEntry } from '../../../src/engine/model/feed.ts';
import { MAX_ID } from '../../../src/engine/model/ids.ts';
import { citusPages } from '../../../src/engine/store/pages/citus.ts';
import { postgresPages } from '../../../src/engine/store/pages/postgres.ts';
import { plainDatabase } from '../../support/cluster.ts';
import { makeCelebrity, plantFollows, plantPosts, plantUsers } from './feeds.ts';

/*
 * The statements for Citus run on plain PostgreSQL too. So both variants must give the same results
 * there, even on a machine without Citus.
 */

/** User 1 follows 2 to 5, but not 6. Author 4 is a celebrity, and author 5 is about to become one. */
async function plantedFeed(): Promise<Database> {
  const { db } = await plainDatabase();
  await plantUsers(db, 6);
  await plantFollows(db, [
    [1, 2],
    [1, 3],
    [1, 4],
    [1, 5],
    [2, 1],
  ]);
  const posts = Array.from({ length: 60 }, (_, i) => ({ id: i + 1, authorId: (i % 6) + 1 }));
  await plantPosts(db, posts);
  await db.query('update posts set deleted_at = now() where id % 7 = 0');
  await makeCelebrity(db, 4, 'pull');
  await makeCelebrity(db, 5, 'both');
  await db.query('update users set feed_floor = 12 where id = 1');
  // Correct rows, rows of deleted posts and of an unfollowed author, and one wrong author.
  await db.query(
    `insert into feed_items (user_id, post_id, author_id)
     select 1, id, author_id from posts where author_id in (2, 3, 6) and id > 9 and id % 4 <> 0`,
  );
  await db.query('update feed_items set author_id = 2 where user_id = 1 and post_id = 15');
  return db;
}

test('pages are the same', async () => {
  const db = await plantedFeed();
  const { rows: cached } = await db.query<FeedEntry>(
    `select post_id as "postId", author_id as "authorId" from feed_items
     where user_id = 1 order by post_id desc`,
  );
  for (const limit of [1, 3, 10, 100]) {
    for (const before of [MAX_ID, 50, 20, 13, 5]) {
      const query = { userId: 1, before, limit, floor: 12 };
      const at = `before ${before}, limit ${limit}`;
      expect(await citusPages.aboveFloor(db, query), at).toEqual(await postgresPages.aboveFloor(db, query));
      expect(await citusPages.belowFloor(db, query), at).toEqual(await postgresPages.belowFloor(db, query));
      expect(await citusPages.ofCached(db, query, cached), at).toEqual(
        await postgresPages.ofCached(db, query, cached),
      );
    }
  }
  const unknown = { userId: 99, before: MAX_ID, limit: 3, floor: 0 };
  for (const pages of [postgresPages, citusPages]) {
    expect(await pages.aboveFloor(db, unknown)).toBeUndefined();
    expect(await pages.ofCached(db, unknown, cached)).toEqual([]);
    expect(await pages.belowFloor(db, unknown)).toEqual([]);
  }
});

test('faults and asymmetric pairs are the same', async () => {
  const db = await plantedFeed();
  await db.query('delete from followers where followee_id = 3');
  await db.query('insert into followers (follower_id, followee_id) values (2, 6)');
  const pairs = await postgresVerify.asymmetricPairs(db, 0, 6);
  expect(pairs).toHaveLength(2);
  const byFollower = (a: { followerId: number }, b: { followerId: number }) => a.followerId - b.followerId;
  expect((await citusVerify.asymmetricPairs(db, 0, 6)).sort(byFollower)).toEqual(pairs.sort(byFollower));
  const faults = await postgresVerify.compareFeeds(db, 0, 6, pairs);
  expect(faults.map(({ userId }) => userId)).toContain(1);
  expect(await citusVerify.compareFeeds(db, 0, 6, pairs)).toEqual(faults);
});

test('entries that differ are the same, and users who were erased meanwhile have none', async () => {
  const db = await plantedFeed();
  for (const upTo of [MAX_ID, 30, 12]) {
    const [plain, sharded] = await Promise.all(
      [postgresVerify, citusVerify].map(async (variant) => {
        const entries = await variant.differingEntries(db, [1, 2, 404], upTo);
        return entries
          .map((entry) => `${entry.userId} ${entry.kind} ${entry.postId} ${entry.authorId}`)
          .sort();
      }),
    );
    expect(plain!.length, `up to ${upTo}`).toBeGreaterThan(0);
    expect(sharded, `up to ${upTo}`).toEqual(plain);
  }
  for (const variant of [postgresVerify, citusVerify])
    expect(await variant.differingEntries(db, [404, 405], MAX_ID)).toEqual([]);
});

test('rebuilt feeds are the same, and previews change nothing', async () => {
  const db = await plantedFeed();
  const rows = async () =>
    (await db.query('select post_id, author_id from feed_items where user_id = 1 order by post_id')).rows;
  const before = await rows();
  const plans = [await postgresRebuild.preview(db, [1]), await citusRebuild.preview(db, [1])];
  expect(plans[1]).toEqual(plans[0]);
  expect(await rows()).toEqual(before);
  const results: unknown[] = [];
  for (const variant of [postgresRebuild, citusRebuild]) {
    await db.rehearse(async (session) => {
      const result = await variant.rebuild(session, [1], true);
      const feed = await session.query(
        'select post_id, author_id from feed_items where user_id = 1 order by post_id',
      );
      const floor = await session.query('select feed_floor from users where id = 1');
      results.push({ result, feed: feed.rows, floor: floor.rows });
    });
  }
  expect(results[1]).toEqual(results[0]);
  expect(results[0]).toMatchObject({ result: plans[0] });
});
