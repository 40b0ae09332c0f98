import type { Queryable } from '../../database/types.ts';
import type { FeedEntry } from '../../model/feed.ts';
import { idsOfArray } from '../citusFeeds.ts';
import type { FeedPages, PageQuery, PageRow } from './types.ts';

/*
 * Pages of feeds on Citus take two steps. The first reads the shard of the reader in one statement,
 * which is one snapshot of that shard. The second reads the posts from the shards of their authors.
 * A post that is deleted between the two is not shown.
 *
 * A change between push and pull needs no further care. Posts of a merged author stay in `posts`.
 * Feed rows are removed only after every reader has seen the author among the celebrities.
 */

/**
 * Returns the floor, the newest rows of followed authors, and the followed celebrities. In: user,
 * before, limit.
 */
const FEED = `
  select u.feed_floor as floor, i.post_id as "postId", i.author_id as "authorId",
         array(select f.followee_id from follows f join celebrities c on c.user_id = f.followee_id
               where f.follower_id = $1)::text as celebrities
  from users u left join lateral (
    select i.post_id, i.author_id from feed_items i
    join follows f on f.follower_id = $1 and f.followee_id = i.author_id
    where i.user_id = $1 and i.post_id > u.feed_floor and i.post_id < $2
    order by i.post_id desc limit $3) i on true
  where u.id = $1 order by i.post_id desc`;

/** Returns which of the authors are followed, and the followed celebrities. In: user, authors. */
const FOLLOWED = `
  select array(select followee_id from follows
               where follower_id = $1 and followee_id = any($2))::text as authors,
         array(select f.followee_id from follows f join celebrities c on c.user_id = f.followee_id
               where f.follower_id = $1)::text as celebrities
  from users u where u.id = $1`;

const POST = `p.id as "postId", p.author_id as "authorId", p.body, p.created_at as "createdAt"`;

/** In: authors, posts. */
const POSTS = `
  select ${POST} from unnest($1::bigint[], $2::bigint[]) wanted(author_id, id)
  join posts p on p.author_id = wanted.author_id and p.id = wanted.id
  where p.author_id = any($1) and p.deleted_at is null`;

/**
 * Returns the newest posts of all these authors together. In: authors, before, limit, maximum id.
 */
const NEWEST = `
  select ${POST} from posts p
  where p.author_id = any($1) and p.id < $2 and p.id <= $4 and p.deleted_at is null
  order by p.id desc limit $3`;

type Found = Omit<PageRow, 'source'>;

async function newestPosts(
  db: Queryable,
  authors: readonly number[],
  query: { before: number; limit: number; upTo?: number },
): Promise<Found[]> {
  if (authors.length === 0) return [];
  const values = [authors, query.before, query.limit, query.upTo ?? Number.MAX_SAFE_INTEGER];
  return (await db.query<Found>(NEWEST, values)).rows;
}

async function postsOf(db: Queryable, entries: readonly FeedEntry[]): Promise<Found[]> {
  if (entries.length === 0) return [];
  const authors = entries.map((entry) => entry.authorId);
  return (await db.query<Found>(POSTS, [authors, entries.map((entry) => entry.postId)])).rows;
}

/**
 * Merges three sources, newest first. A post in several of them counts as pushed, then as pulled,
 * then as own.
 */
async function mergedPage(
  db: Queryable,
  query: Omit<PageQuery, 'floor'>,
  pushed: readonly FeedEntry[],
  celebrities: readonly number[],
): Promise<PageRow[]> {
  const [own, pulled, rows] = await Promise.all([
    newestPosts(db, [query.userId], query),
    newestPosts(db, celebrities, query),
    postsOf(db, pushed),
  ]);
  const byId = new Map<number, PageRow>();
  for (const row of own) byId.set(row.postId, { ...row, source: 'own' });
  for (const row of pulled) byId.set(row.postId, { ...row, source: 'pulled' });
  for (const row of rows) byId.set(row.postId, { ...row, source: 'pushed' });
  return [...byId.values()].sort((a, b) => b.postId - a.postId).slice(0, query.limit);
}

interface FeedRow {
  readonly floor: number;
  readonly postId: number | null;
  readonly authorId: number;
  readonly celebrities: string;
}

export const citusPages: FeedPages = {
  /**
   * Deleted posts can make a page short. Then it reads further down, twice as many rows each time.
   */
  async aboveFloor(db, query) {
    for (let count = query.limit; ; count *= 2) {
      const { rows } = await db.query<FeedRow>(FEED, [query.userId, query.before, count]);
      const first = rows[0];
      if (!first) return undefined;
      const entries = rows.flatMap(({ postId, authorId }) => (postId === null ? [] : [{ postId, authorId }]));
      const page = await mergedPage(db, query, entries, idsOfArray(first.celebrities));
      // Below the last row that was read, merged posts may lie between rows that were not read.
      const last = entries.length === count ? entries.at(-1)!.postId : 0;
      if (last === 0 || (page.length === query.limit && page.at(-1)!.postId >= last))
        return { floor: first.floor, rows: page };
    }
  },

  async ofCached(db, query, cached) {
    const cachedAuthors = [...new Set(cached.map((entry) => entry.authorId))];
    const { rows } = await db.query<{ authors: string; celebrities: string }>(FOLLOWED, [
      query.userId,
      cachedAuthors,
    ]);
    const first = rows[0];
    if (!first) return [];
    const followed = new Set(idsOfArray(first.authors));
    const pushed = cached.filter(
      (entry) => entry.postId > query.floor && entry.postId < query.before && followed.has(entry.authorId),
    );
    return mergedPage(db, query, pushed, idsOfArray(first.celebrities));
  },

  async belowFloor(db, query) {
    const follows = await db.query<{ id: number }>(
      'select followee_id as id from follows where follower_id = $1',
      [query.userId],
    );
    const authors = follows.rows.map((row) => row.id);
    const rows = await newestPosts(db, authors, { ...query, upTo: query.floor });
    return rows.map((row) => ({ ...row, source: 'pulled' }));
  },
};
