import type { QueryResultRow } from 'pg';
import type { Database } from '../../database/database.ts';
import type { Pair } from '../../store/follows.ts';
import { type DifferingEntry, type FeedFaults, MAX_NAMED, type VerifyVariant } from './variant.ts';

/**
 * Compares feeds with the truth, above their floors. In: first user id (excluded), last (included).
 * One statement is one snapshot. Rows of authors that change between push and pull (`both`) are
 * optional, so they are no faults.
 */
const COMPARE = `
  with checked as (select id, feed_floor from users where id > $1 and id <= $2),
  truth as (
    select c.id as user_id, p.id as post_id, p.author_id
    from checked c
    join follows f on f.follower_id = c.id
    join users a on a.id = f.followee_id and a.push_state = 'push'
    join posts p on p.author_id = f.followee_id and p.deleted_at is null and p.id > c.feed_floor
  ), actual as (
    select i.user_id, i.post_id, i.author_id
    from checked c join feed_items i on i.user_id = c.id and i.post_id > c.feed_floor
    left join users a on a.id = i.author_id
    where a.push_state is distinct from 'both'
  ), faults as (
    select coalesce(t.user_id, x.user_id) as user_id,
           t.user_id is null as extra,
           t.user_id is null and not exists (
             select from follows f
             where f.follower_id = x.user_id and f.followee_id = x.author_id) as stranger
    from truth t
    full join actual x on t.user_id = x.user_id and t.post_id = x.post_id and t.author_id = x.author_id
    where t.user_id is null or x.user_id is null
  )
  select user_id as "userId", count(*) filter (where not extra)::integer as missing,
         count(*) filter (where stranger)::integer as strangers,
         count(*) filter (where extra and not stranger)::integer as orphans
  from faults group by user_id order by user_id`;

/**
 * Compares a range of feeds in one pass of hash joins. Without statistics, just after a load, the
 * planner expects small tables and would choose nested loops: 170 s instead of 1 s.
 */
async function overRange<Row extends QueryResultRow>(
  db: Database,
  statement: string,
  values: number[],
): Promise<Row[]> {
  return db.transaction(async (session) => {
    if (values[1]! - values[0]! > 1) await session.query('set local enable_nestloop = off');
    return (await session.query<Row>(statement, values)).rows;
  });
}

/**
 * Returns pairs that only one of `follows` and `followers` has. In: first follower (excluded), last
 * (included).
 */
const ASYMMETRIC = `
  select follower_id as "followerId", followee_id as "followeeId"
  from (select follower_id, followee_id, true as truth from follows
        where follower_id > $1 and follower_id <= $2) a
  full join (select follower_id, followee_id, true as mirror from followers
             where follower_id > $1 and follower_id <= $2) b using (follower_id, followee_id)
  where truth is null or mirror is null`;

/**
 * Names differing entries. In: users, maximum post id, maximum entries of one feed and kind. One
 * statement is one snapshot. `offset 0` keeps the lookups by index: a plan for small tables, which
 * the planner expects without statistics, would read all posts.
 */
const DIFFERING = `
  with checked as (select id, feed_floor from users where id = any($1)),
  differing as (
    select c.id as user_id, p.id as post_id, p.author_id, 'missing' as kind
    from checked c
    join follows f on f.follower_id = c.id
    join users a on a.id = f.followee_id and a.push_state = 'push'
    cross join lateral (
      select id, author_id from posts
      where author_id = f.followee_id and id > c.feed_floor and id <= $2 and deleted_at is null offset 0) p
    where not exists (
      select from feed_items i where i.user_id = c.id and i.post_id = p.id and i.author_id = p.author_id)
    union all
    select c.id, i.post_id, i.author_id, 'strangers'
    from checked c
    cross join lateral (
      select post_id, author_id from feed_items
      where user_id = c.id and post_id > c.feed_floor and post_id <= $2 offset 0) i
    where not exists (select from follows f where f.follower_id = c.id and f.followee_id = i.author_id)
      and not exists (select from users a where a.id = i.author_id and a.push_state = 'both')
  )
  select user_id as "userId", post_id as "postId", author_id as "authorId", kind
  from (select *, row_number() over (partition by user_id, kind order by post_id desc) as nth
        from differing) numbered
  where nth <= $3 order by user_id, kind, post_id desc`;

export const postgresVerify: VerifyVariant = {
  rangeSize: 10_000,
  asymmetricPairs: (db, after, last) => overRange<Pair & QueryResultRow>(db, ASYMMETRIC, [after, last]),
  compareFeeds: (db, after, last) => overRange<FeedFaults>(db, COMPARE, [after, last]),
  async differingEntries(db, userIds, upTo) {
    const values = [userIds, upTo, MAX_NAMED];
    return (await db.query<DifferingEntry & QueryResultRow>(DIFFERING, values)).rows;
  },
};
