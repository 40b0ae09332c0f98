import type { Database, Queryable } from '../database/database.ts';
import { feedPartitionSizes } from '../database/feedPartitions.ts';
import type { PushState } from '../model/celebrity.ts';
import { FEED_LIMIT } from '../model/feed.ts';
import { firstIdAt } from '../model/ids.ts';

const DAY_MS = 86_400_000;
/** Feed rows that are sampled to estimate how many an author has. */
const SAMPLED_ROWS = 2_000_000;
/** Bytes of a feed row with its index, for tables that are too small to measure. */
const USUAL_ROW_BYTES = 90;

/** An author whom a rule may change. */
export interface CelebrityCandidate {
  readonly userId: number;
  readonly state: PushState;
  readonly pinned: boolean;
  readonly followers: number;
}

/** Returns authors above the threshold and all celebrities, most followers first. One scan of `users`. */
export async function celebrityCandidates(db: Queryable, threshold: number): Promise<CelebrityCandidate[]> {
  const { rows } = await db.query<CelebrityCandidate>(
    `select id as "userId", push_state as state, push_pinned as pinned, follower_count as followers from users
     where follower_count > $1 or push_state <> 'push' order by follower_count desc, id`,
    [threshold],
  );
  return rows;
}

/**
 * Returns the posts per day of each author over the last days. A younger cluster counts since its first
 * migration, at least one day. Imported posts count at the time of their import.
 */
export async function postsADay(
  db: Queryable,
  authorIds: readonly number[],
  days: number,
): Promise<Map<number, number>> {
  const age = await db.query<{ ms: number }>(
    'select extract(epoch from localtimestamp - min(run_on))::float8 * 1000 as ms from schema_migrations',
  );
  const spanMs = Math.max(DAY_MS, Math.min(days * DAY_MS, age.rows[0]?.ms ?? 0));
  const { rows } = await db.query<{ id: number; posts: number }>(
    `select aggregate_id as id, count(*)::integer as posts from events
     where aggregate_id = any($1) and type = 'post.created' and id >= $2 group by 1`,
    [authorIds, firstIdAt(Date.now() - days * DAY_MS)],
  );
  return new Map(rows.map(({ id, posts }) => [id, (posts * DAY_MS) / spanMs]));
}

/** Returns how many posts of each author a feed could have: FEED_LIMIT at most. */
export async function postsForFeeds(
  db: Queryable,
  authorIds: readonly number[],
): Promise<Map<number, number>> {
  const { rows } = await db.query<{ id: number; posts: number }>(
    `select a.id, (select count(*)::integer from (
       select 1 from posts where author_id = a.id and deleted_at is null
       order by id desc limit $2) newest) as posts
     from users a where a.id = any($1)`,
    [authorIds, FEED_LIMIT],
  );
  return new Map(rows.map(({ id, posts }) => [id, posts]));
}

/** Size of `feed_items` by the servers' statistics. */
export interface FeedTable {
  readonly rows: number;
  readonly bytesARow: number;
}

export async function feedTable(db: Database): Promise<FeedTable> {
  const sizes = [...(await feedPartitionSizes(db)).values()];
  const bytes = sizes.reduce((sum, size) => sum + size.bytes, 0);
  const rows = sizes.reduce((sum, size) => sum + size.rows, 0);
  // The bytes of a small table are mostly empty pages.
  return rows > 10_000
    ? { rows, bytesARow: bytes / rows }
    : { rows: bytes / USUAL_ROW_BYTES, bytesARow: USUAL_ROW_BYTES };
}

/**
 * Returns the feed rows of each author, from a sample of pages if the table is big. One pass over the
 * sample: no index leads from an author to the rows.
 */
export async function storedRows(
  db: Queryable,
  authorIds: readonly number[],
  table: FeedTable,
): Promise<Map<number, number>> {
  const percent = Math.min(100, (100 * SAMPLED_ROWS) / Math.max(1, table.rows));
  const sample = percent < 100 ? `tablesample system (${percent.toFixed(6)})` : '';
  const { rows } = await db.query<{ id: number; rows: number }>(
    `select author_id as id, count(*)::bigint as rows from feed_items ${sample}
     where author_id = any($1) group by 1`,
    [authorIds],
  );
  return new Map(rows.map(({ id, rows }) => [id, Math.round((rows * 100) / percent)]));
}

export interface MergedAuthors {
  /** Feeds that follow any of the authors. */
  readonly feeds: number;
  /** Mean number of these authors in such a feed. */
  readonly mean: number;
  /** Maximum number. */
  readonly most: number;
}

/** Returns how many feeds follow the authors, and how many of them. Citus counts at the follower's shard. */
export async function mergedAuthors(db: Database, authorIds: readonly number[]): Promise<MergedAuthors> {
  if (authorIds.length === 0) return { feeds: 0, mean: 0, most: 0 };
  const table = (await db.sharding()).distributed ? 'follows' : 'followers';
  const { rows } = await db.query<MergedAuthors>(
    `select count(*)::integer as feeds, coalesce(avg(n), 0)::float8 as mean,
            coalesce(max(n), 0)::integer as most
     from (select follower_id, count(*) as n from ${table} where followee_id = any($1) group by 1) merged`,
    [authorIds],
  );
  return rows[0]!;
}

export async function countUsers(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ users: number }>('select count(*)::integer as users from users');
  return rows[0]!.users;
}
