import type { Database } from '../../database/database.ts';
import type { Queryable } from '../../database/types.ts';
import type { FeedEntry } from '../../model/feed.ts';
import { followsOf, itemsOf, truthOf } from '../../store/citusFeeds.ts';
import type { Pair } from '../../store/follows.ts';
import { runConcurrently } from '../../util/parallel.ts';
import { type DifferingEntry, type FeedFaults, MAX_NAMED, type VerifyVariant } from './variant.ts';

/*
 * Verification on Citus. Follows and feeds are in the shard of their reader, posts and followers in
 * the shard of the author. A join of all of them would move every row. So each side counts its rows
 * and sums their hashes by reader, and only readers with different sums are compared row by row.
 *
 * The two sums of a range come from two statements without a common snapshot. A change in between
 * is a difference, which the later comparison of rows no longer shows.
 */

/**
 * Sums the followees of each follower, from either side. In: first user id (excluded), last
 * (included).
 */
const FOLLOWS_SUMS = `
  select follower_id as id, count(*) as rows, sum(hashint8extended(followee_id, 0))::text as sum
  from follows where follower_id > $1 and follower_id <= $2 group by follower_id`;
const FOLLOWERS_SUMS = FOLLOWS_SUMS.replace('from follows', 'from followers');

/**
 * Sums the rows of feeds above their floors. Rows of authors that change between push and pull are
 * optional.
 */
const ITEMS_SUMS = `
  select i.user_id as id, count(*) as rows, sum(hashint8extended(i.post_id, i.author_id))::text as sum
  from users u join feed_items i on i.user_id = u.id and i.post_id > u.feed_floor
  where u.id > $1 and u.id <= $2
    and not exists (select from celebrities c where c.user_id = i.author_id and c.state = 'both')
  group by i.user_id`;

/**
 * Sums the rows that feeds should have, from the author's side. `followers` has been compared with
 * `follows` before.
 */
const TRUTH_SUMS = `
  with floors as materialized (select id, feed_floor from users where id > $1 and id <= $2)
  select f.follower_id as id, count(*) as rows, sum(hashint8extended(p.id, p.author_id))::text as sum
  from floors
  join followers f on f.follower_id = floors.id
  join users a on a.id = f.followee_id and a.push_state = 'push'
  join posts p on p.author_id = f.followee_id and p.deleted_at is null and p.id > floors.feed_floor
  group by f.follower_id`;

interface Sum {
  readonly id: number;
  readonly rows: number;
  readonly sum: string;
}

const USERS_PER_COMPARISON = 200;
const CONCURRENCY = 4;

/** Returns the users of a range for whom two statements give different sums. */
async function differing(
  db: Database,
  statements: readonly [string, string],
  range: readonly [after: number, last: number],
): Promise<number[]> {
  const [left, right] = await Promise.all(
    statements.map((statement) =>
      db.transaction(async (session) => {
        // Tables without statistics get nested loops, as on plain PostgreSQL. This covers the nodes
        // too.
        await session.query(`set local citus.propagate_set_commands = 'local'`);
        await session.query('set local enable_nestloop = off');
        const { rows } = await session.query<Sum>(statement, [...range]);
        return new Map(rows.map((row) => [row.id, `${row.rows} ${row.sum}`]));
      }),
    ),
  );
  return [...new Set([...left!.keys(), ...right!.keys()])].filter((id) => left!.get(id) !== right!.get(id));
}

async function asymmetricPairs(db: Database, after: number, last: number): Promise<Pair[]> {
  const ids = await differing(db, [FOLLOWS_SUMS, FOLLOWERS_SUMS], [after, last]);
  if (ids.length === 0) return [];
  const mirrored = await db.query<Pair & { [column: string]: unknown }>(
    `select follower_id as "followerId", followee_id as "followeeId" from followers
     where follower_id = any($1)`,
    [ids],
  );
  const key = (pair: Pair) => `${pair.followerId} ${pair.followeeId}`;
  const truth = new Map((await followsOf(db, ids)).map((pair) => [key(pair), pair]));
  const mirror = new Map(mirrored.rows.map((pair) => [key(pair), pair]));
  return [...truth, ...mirror].filter(([k]) => !truth.has(k) || !mirror.has(k)).map(([, pair]) => pair);
}

async function compareFeeds(
  db: Database,
  after: number,
  last: number,
  asymmetric: readonly Pair[],
): Promise<FeedFaults[]> {
  const single = last - after === 1;
  const differ = single ? [last] : await differing(db, [ITEMS_SUMS, TRUTH_SUMS], [after, last]);
  const ids = [...new Set([...differ, ...asymmetric.map((pair) => pair.followerId)])];
  const faults = (await compareByShard(db, ids)).map(({ userId, missing, strangers, orphans }) => {
    return { userId, missing: missing.length, strangers: strangers.length, orphans };
  });
  return faults.sort((a, b) => a.userId - b.userId);
}

/** The differences of one feed, row by row. */
interface RowFaults {
  readonly userId: number;
  readonly missing: readonly FeedEntry[];
  readonly strangers: readonly FeedEntry[];
  readonly orphans: number;
}

async function compareByShard(db: Database, ids: readonly number[]): Promise<RowFaults[]> {
  const sharding = await db.sharding();
  const batches: number[][] = [];
  for (const group of sharding.group(ids, (id) => id)) {
    for (let from = 0; from < group.length; from += USERS_PER_COMPARISON)
      batches.push(group.slice(from, from + USERS_PER_COMPARISON));
  }
  return (await runConcurrently(batches, CONCURRENCY, (batch) => compareRows(db, batch))).flat();
}

async function compareRows(db: Queryable, ids: readonly number[]): Promise<RowFaults[]> {
  const users = await db.query<{ id: number; floor: number }>(
    'select id, feed_floor as floor from users where id = any($1)',
    [ids],
  );
  // Users who were erased meanwhile have no row.
  if (users.rows.length === 0) return [];
  const floors = new Map(users.rows.map((user) => [user.id, user.floor]));
  const above = Math.min(...floors.values());
  const truth = await truthOf(db, ids, { states: ['push'], above, limit: Number.MAX_SAFE_INTEGER });
  const followsByUser = Map.groupBy(await followsOf(db, ids), (pair) => pair.followerId);
  const actual = await itemsOf(db, ids);
  const both = await db.query<{ id: number }>(`select user_id as id from celebrities where state = 'both'`);
  const changing = new Set(both.rows.map((row) => row.id));
  const faults: RowFaults[] = [];
  for (const [userId, floor] of floors) {
    const expected = new Map(truth.get(userId)!.map((entry) => [entry.postId, entry]));
    for (const postId of expected.keys()) if (postId <= floor) expected.delete(postId);
    const follows = new Set(followsByUser.get(userId)?.map((pair) => pair.followeeId));
    const strangers: FeedEntry[] = [];
    let orphans = 0;
    for (const row of actual.get(userId)!) {
      const { postId, authorId } = row;
      if (postId <= floor || changing.has(authorId)) continue;
      if (expected.get(postId)?.authorId === authorId) expected.delete(postId);
      else if (follows.has(authorId)) orphans += 1;
      else strangers.push(row);
    }
    if (expected.size + strangers.length + orphans > 0)
      faults.push({ userId, missing: [...expected.values()], strangers, orphans });
  }
  return faults;
}

async function differingEntries(
  db: Database,
  userIds: readonly number[],
  upTo: number,
): Promise<DifferingEntry[]> {
  const named = (userId: number, kind: DifferingEntry['kind'], entries: readonly FeedEntry[]) =>
    entries
      .filter(({ postId }) => postId <= upTo)
      .sort((a, b) => b.postId - a.postId)
      .slice(0, MAX_NAMED)
      .map((entry) => ({ userId, kind, ...entry }));
  return (await compareByShard(db, userIds)).flatMap(({ userId, missing, strangers }) => [
    ...named(userId, 'missing', missing),
    ...named(userId, 'strangers', strangers),
  ]);
}

export const citusVerify: VerifyVariant = {
  /**
   * Each range scans all of `followers`, which is sorted by followee. Few ranges suffice: they
   * return only sums.
   */
  rangeSize: 200_000,
  asymmetricPairs,
  compareFeeds,
  differingEntries,
};
