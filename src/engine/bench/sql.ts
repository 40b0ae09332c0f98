import type { Database, Queryable } from '../database/database.ts';

/** Table for the rows of the limit, with the columns and indexes of `feed_items`. */
export const RAW_TABLE = 'bench_raw';

const TABLES =
  'users, posts, follows, followers, feed_items, events, celebrities, run_batches, idempotency_keys';

export async function emptyAll(db: Database): Promise<void> {
  await db.query(`drop table if exists ${RAW_TABLE}`);
  await db.query(`truncate ${TABLES}`);
}

/** Empties a table before a run. */
export async function emptyTable(db: Database, table: 'feed_items' | typeof RAW_TABLE): Promise<void> {
  if (table === RAW_TABLE) {
    await db.query(`drop table if exists ${RAW_TABLE}`);
    await db.query(`create table ${RAW_TABLE} (like feed_items including all)`);
    if ((await db.sharding()).distributed) {
      await db.query(
        `select create_distributed_table('${RAW_TABLE}', 'user_id', colocate_with => 'feed_items')`,
      );
    }
  } else {
    await db.query(`truncate ${table}`);
  }
  await checkpoint(db);
}

/** Writes dirty pages back, so that every run starts equal. */
export async function checkpoint(db: Database): Promise<void> {
  await db.query('vacuum bus.messages');
  // Needs a superuser. Without it, runs share the cost of dirty pages.
  await db.query('checkpoint').catch(() => {});
}

/** Returns the bytes of WAL that the server has written since its installation. */
export async function walBytes(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ bytes: number }>(
    `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as bytes`,
  );
  return rows[0]!.bytes;
}

/** Returns the number of checkpoints since the server's statistics began. */
export async function checkpoints(db: Queryable): Promise<number> {
  // PostgreSQL 17 moved the counters.
  const { rows } = await db.query<{ view: string | null }>(
    `select to_regclass('pg_stat_checkpointer')::text as view`,
  );
  const counted = rows[0]!.view ? 'num_timed + num_requested' : 'checkpoints_timed + checkpoints_req';
  const from = rows[0]!.view ?? 'pg_stat_bgwriter';
  const result = await db.query<{ n: number }>(`select ${counted} as n from ${from}`);
  return result.rows[0]!.n;
}

/** Vacuums after a load, so that plans fit and autovacuum does not start during the runs. */
export async function settleAfterLoad(db: Database): Promise<void> {
  await db.query('vacuum analyze events, posts, followers, follows, users, feed_items');
}

/** A page without a materialized feed: the newest posts of all followed authors. In: user, limit. */
const JOINED_PAGE = `
  select p.id as "postId", p.author_id as "authorId", p.body, p.created_at as "createdAt"
  from follows f join posts p on p.author_id = f.followee_id and p.deleted_at is null
  where f.follower_id = $1 order by p.id desc limit $2`;

export async function joinedPage(db: Queryable, userId: number, limit: number): Promise<number> {
  return (await db.query(JOINED_PAGE, [userId, limit])).rows.length;
}

export interface StageTruth {
  readonly posts: number;
  /** Followers of their authors. */
  readonly deliveries: number;
  /** Deliveries to listeners. */
  readonly expected: number;
}

/** Counts posts with ids from `first` on and their deliveries, from the tables of posts and follows. */
export async function stageTruth(
  db: Queryable,
  first: number,
  listeners: readonly number[],
): Promise<StageTruth> {
  const { rows } = await db.query<StageTruth>(
    `with made as (select author_id, count(*) as posts from posts where id >= $1 group by author_id)
     select (select coalesce(sum(posts), 0)::bigint from made) as posts,
            (select coalesce(sum(posts), 0)::bigint from made join follows on followee_id = author_id)
              as deliveries,
            (select coalesce(sum(posts), 0)::bigint from made join follows on followee_id = author_id
             where follower_id = any($2)) as expected`,
    [first, listeners],
  );
  return rows[0]!;
}

/** The limit of a rebuild: copies the rows of all feeds with one statement. Returns their number. */
export async function copyFeeds(db: Queryable): Promise<number> {
  const statement = `insert into ${RAW_TABLE} (user_id, post_id, author_id)
    select user_id, post_id, author_id from feed_items`;
  return (await db.query(statement)).rowCount ?? 0;
}

/** Authors who are fanned out and have at most `maxFollowers`, those with the most first. */
export async function pushedAuthors(db: Queryable, maxFollowers: number, limit: number): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `select id from users where push_state = 'push' and follower_count between 1 and $1
     order by follower_count desc, id limit $2`,
    [maxFollowers, limit],
  );
  return rows.map((row) => row.id);
}

/** Returns the feed rows that vacuum has to remove. Null on Citus, whose nodes have them. */
export async function deadFeedRows(db: Database): Promise<number | null> {
  if ((await db.sharding()).distributed) return null;
  const { rows } = await db.query<{ dead: number }>(
    `select coalesce(sum(pg_stat_get_dead_tuples(inhrelid)), 0)::bigint as dead from pg_inherits
     where inhparent = 'feed_items'::regclass`,
  );
  return rows[0]!.dead;
}
