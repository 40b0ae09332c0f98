import type { QueryResultRow } from 'pg';
import type { Database } from '../../database/database.ts';
import type { Queryable } from '../../database/types.ts';
import type { Pair } from '../../store/follows.ts';
import { asymmetricShardPairs, compareShardFeeds } from './citus.ts';

export interface FeedFaults {
  readonly userId: number;
  /** Posts that should be above the floor and are not. */
  readonly missing: number;
  /** Rows of authors the user does not follow. */
  readonly strangers: number;
  /** Rows of posts that are deleted or were never there, or of celebrities: a reader is not shown them. */
  readonly orphans: number;
}

/**
 * Compares feeds with the truth, above their floors. In: first user id (excluded), last (included). One statement,
 * so one snapshot. Authors who are changing between push and pull (`both`) may have rows or not: either is right.
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
             select from follows f where f.follower_id = x.user_id and f.followee_id = x.author_id) as stranger
    from truth t full join actual x on t.user_id = x.user_id and t.post_id = x.post_id and t.author_id = x.author_id
    where t.user_id is null or x.user_id is null
  )
  select user_id as "userId", count(*) filter (where not extra)::integer as missing,
         count(*) filter (where stranger)::integer as strangers,
         count(*) filter (where extra and not stranger)::integer as orphans
  from faults group by user_id order by user_id`;

/**
 * Over a range of feeds the comparison is one pass of hash joins. Tables that were just loaded have no statistics
 * yet, and a planner that takes them for small goes row by row: 170 s where this takes one.
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

/** `asymmetric`: what `asymmetricPairs` has found in this range. */
export async function compareFeeds(
  db: Database,
  after: number,
  last: number,
  asymmetric: readonly Pair[],
): Promise<FeedFaults[]> {
  if ((await db.sharding()).distributed) return compareShardFeeds(db, after, last, asymmetric);
  return overRange<FeedFaults>(db, COMPARE, [after, last]);
}

/** Pairs that only one of `follows` and `followers` has, for followers in a range of ids. */
export async function asymmetricPairs(db: Database, after: number, last: number): Promise<Pair[]> {
  if ((await db.sharding()).distributed) return asymmetricShardPairs(db, after, last);
  return overRange<Pair & QueryResultRow>(
    db,
    `select follower_id as "followerId", followee_id as "followeeId"
     from (select follower_id, followee_id, true as truth from follows where follower_id > $1 and follower_id <= $2) a
     full join (select follower_id, followee_id, true as mirror from followers
                where follower_id > $1 and follower_id <= $2) b using (follower_id, followee_id)
     where truth is null or mirror is null`,
    [after, last],
  );
}

/** Bounds of ranges with about `size` users each, to go through all of them: (after, last]. */
export async function userRanges(
  db: Queryable,
  size: number,
): Promise<{ after: number; last: number; users: number }[]> {
  const { rows } = await db.query<{ last: number; users: number }>(
    `select max(id) as last, count(*)::integer as users
     from (select id, (row_number() over (order by id) - 1) / $1 as range from users) numbered
     group by range order by 1`,
    [size],
  );
  return rows.map((row, i) => ({ after: rows[i - 1]?.last ?? 0, last: row.last, users: row.users }));
}
