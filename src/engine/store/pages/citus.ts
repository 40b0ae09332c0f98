import type { Queryable } from '../../database/types.ts';
import type { FeedEntry } from '../../model/feed.ts';
import { idsOfArray } from '../citusFeeds.ts';
import type { PageQuery, PageRow } from '../feeds.ts';

/**
 * Pages of feeds on Citus, in two steps: what the reader's own shard knows, in one statement and so one snapshot of
 * it, and then the posts, from the shards of their authors. Between the two a post may be deleted: it is not shown.
 * A change between push and pull costs nothing either: an author who is merged is merged from posts, which stay, and
 * rows go only when every reader has seen the author among the celebrities.
 */

/** In: user, before, limit. The floor, the newest rows of those followed, and the celebrities followed. */
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

/** In: user, authors. The floor, those of the authors who are followed, and the celebrities followed. */
const FOLLOWED = `
  select array(select followee_id from follows where follower_id = $1 and followee_id = any($2))::text as authors,
         array(select f.followee_id from follows f join celebrities c on c.user_id = f.followee_id
               where f.follower_id = $1)::text as celebrities
  from users u where u.id = $1`;

const POST = `p.id as "postId", p.author_id as "authorId", p.body, p.created_at as "createdAt"`;

/** In: authors, posts. */
const POSTS = `
  select ${POST} from unnest($1::bigint[], $2::bigint[]) wanted(author_id, id)
  join posts p on p.author_id = wanted.author_id and p.id = wanted.id
  where p.author_id = any($1) and p.deleted_at is null`;

/** In: authors, before, limit. The newest posts of all of them together; $4: none above it. */
const NEWEST = `
  select ${POST} from posts p
  where p.author_id = any($1) and p.id < $2 and p.id <= $4 and p.deleted_at is null order by p.id desc limit $3`;

type Found = Omit<PageRow, 'source'>;

async function newest(
  db: Queryable,
  authors: readonly number[],
  query: { before: number; limit: number; upTo?: number },
): Promise<Found[]> {
  if (authors.length === 0) return [];
  const values = [authors, query.before, query.limit, query.upTo ?? Number.MAX_SAFE_INTEGER];
  return (await db.query<Found>(NEWEST, values)).rows;
}

async function stored(db: Queryable, entries: readonly FeedEntry[]): Promise<Found[]> {
  if (entries.length === 0) return [];
  const authors = entries.map((entry) => entry.authorId);
  return (await db.query<Found>(POSTS, [authors, entries.map((entry) => entry.postId)])).rows;
}

/** Pushed ahead of merged ahead of one's own, each post once, newest first. */
async function merged(
  db: Queryable,
  query: Omit<PageQuery, 'floor'>,
  pushed: readonly FeedEntry[],
  celebrities: readonly number[],
): Promise<PageRow[]> {
  const [own, pulled, rows] = await Promise.all([
    newest(db, [query.userId], query),
    newest(db, celebrities, query),
    stored(db, pushed),
  ]);
  const byId = new Map<number, PageRow>();
  for (const row of own) byId.set(row.postId, { ...row, source: 'own' });
  for (const row of pulled) byId.set(row.postId, { ...row, source: 'pulled' });
  for (const row of rows) byId.set(row.postId, { ...row, source: 'pushed' });
  return [...byId.values()].sort((a, b) => b.postId - a.postId).slice(0, query.limit);
}

/** As `pageAboveFloor`. Where deleted posts leave a page short it looks further down, twice as far each time. */
export async function shardedPageAboveFloor(
  db: Queryable,
  query: Omit<PageQuery, 'floor'>,
): Promise<{ floor: number; rows: PageRow[] } | undefined> {
  for (let count = query.limit; ; count *= 2) {
    const { rows } = await db.query<{
      floor: number;
      postId: number | null;
      authorId: number;
      celebrities: string;
    }>(FEED, [query.userId, query.before, count]);
    const first = rows[0];
    if (!first) return undefined;
    const entries = rows.flatMap(({ postId, authorId }) => (postId === null ? [] : [{ postId, authorId }]));
    const page = await merged(db, query, entries, idsOfArray(first.celebrities));
    // Below the last row that was looked at, what is merged may have rows in between.
    const last = entries.length === count ? entries.at(-1)!.postId : 0;
    if (last === 0 || (page.length === query.limit && page.at(-1)!.postId >= last))
      return { floor: first.floor, rows: page };
  }
}

/** As `pageOfCached`. */
export async function shardedPageOfCached(
  db: Queryable,
  query: PageQuery,
  cached: readonly FeedEntry[],
): Promise<PageRow[]> {
  const authors = [...new Set(cached.map((entry) => entry.authorId))];
  const { rows } = await db.query<{ authors: string; celebrities: string }>(FOLLOWED, [
    query.userId,
    authors,
  ]);
  const first = rows[0];
  if (!first) return [];
  const followed = new Set(idsOfArray(first.authors));
  const pushed = cached.filter(
    (entry) => entry.postId > query.floor && entry.postId < query.before && followed.has(entry.authorId),
  );
  return merged(db, query, pushed, idsOfArray(first.celebrities));
}

/** As `pageBelowFloor`. */
export async function shardedPageBelowFloor(db: Queryable, query: PageQuery): Promise<PageRow[]> {
  const follows = await db.query<{ id: number }>(
    'select followee_id as id from follows where follower_id = $1',
    [query.userId],
  );
  const authors = follows.rows.map((row) => row.id);
  const rows = await newest(db, authors, { ...query, upTo: query.floor });
  return rows.map((row) => ({ ...row, source: 'pulled' }));
}
