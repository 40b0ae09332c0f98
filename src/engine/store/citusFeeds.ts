import type { Queryable } from '../database/types.ts';
import type { FeedEntry } from '../model/feed.ts';
import type { Pair } from './follows.ts';

/**
 * Expected content of feeds on Citus, where follows and posts are in different shards. Follows are
 * read from the shard of the follower, posts from all shards, and this code joins them. Nodes have
 * no common snapshot. Callers that write hold locks instead: see each use.
 */

/** In: users of one shard. */
const FOLLOWS = `
  select follower_id as "followerId", followee_id as "followeeId" from follows where follower_id = any($1)`;

export async function followsOf(db: Queryable, userIds: readonly number[]): Promise<Pair[]> {
  const { rows } = await db.query<Pair & { [column: string]: unknown }>(FOLLOWS, [userIds]);
  return rows;
}

/**
 * Returns ids of posts by author. In: authors, push states, minimum id (excluded), number per
 * author. Rows have two arrays, because there may be 1,000 posts of each of 10,000 authors.
 */
const POSTS = `
  select author_id as author, array_agg(id order by id desc)::text as ids
  from (select p.author_id, p.id, row_number() over (partition by p.author_id order by p.id desc) as nth
        from posts p join users a on a.id = p.author_id
        where p.author_id = any($1) and a.push_state = any($2) and p.deleted_at is null and p.id > $3) newest
  where nth <= $4 group by author_id`;

/** Parses an array that was selected as text: `{1,2}`. */
export const idsOfArray = (array: string): number[] =>
  array === '{}' ? [] : array.slice(1, -1).split(',').map(Number);

/** Returns ids of each author's newest posts, newest first. */
async function postsOf(
  db: Queryable,
  authors: readonly number[],
  query: { states: readonly string[]; above: number; limit: number },
): Promise<Map<number, number[]>> {
  const { rows } = await db.query<{ author: number; ids: string }>(POSTS, [
    authors,
    query.states,
    query.above,
    query.limit,
  ]);
  return new Map(rows.map((row) => [row.author, idsOfArray(row.ids)]));
}

/** Returns the expected entries of each feed, newest first, at most `limit`. */
export async function truthOf(
  db: Queryable,
  userIds: readonly number[],
  query: { states: readonly string[]; above: number; limit: number },
): Promise<Map<number, FeedEntry[]>> {
  const pairs = await followsOf(db, userIds);
  const posts = await postsOf(db, [...new Set(pairs.map((pair) => pair.followeeId))], query);
  const feeds = new Map<number, FeedEntry[]>(userIds.map((id) => [id, []]));
  for (const { followerId, followeeId } of pairs) {
    const feed = feeds.get(followerId)!;
    for (const postId of posts.get(followeeId) ?? []) feed.push({ postId, authorId: followeeId });
  }
  for (const [id, feed] of feeds) {
    feed.sort((a, b) => b.postId - a.postId);
    if (feed.length > query.limit) feeds.set(id, feed.slice(0, query.limit));
  }
  return feeds;
}

/** In: users of one shard. */
const ITEMS = `
  select user_id as "userId", post_id as "postId", author_id as "authorId" from feed_items
  where user_id = any($1)`;

/** Returns the rows of feeds of one shard. */
export async function itemsOf(db: Queryable, userIds: readonly number[]): Promise<Map<number, FeedEntry[]>> {
  const { rows } = await db.query<FeedEntry & { userId: number }>(ITEMS, [userIds]);
  const feeds = new Map<number, FeedEntry[]>(userIds.map((id) => [id, []]));
  for (const { userId, postId, authorId } of rows) feeds.get(userId)!.push({ postId, authorId });
  return feeds;
}
