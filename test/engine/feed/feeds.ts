import type { FeedCache } from '../../../src/engine/cache/cache.ts';
import type { Store } from '../../../src/engine/database/sharding.ts';
import type { Queryable } from '../../../src/engine/database/types.ts';
import { type FeedPage, readFeed } from '../../../src/engine/feed/read/read.ts';

/** Reads a whole feed, page by page. */
export async function scroll(
  db: Store,
  userId: number,
  limit: number,
  cache?: FeedCache,
): Promise<FeedPage['items'][number][]> {
  const items: FeedPage['items'][number][] = [];
  let cursor: string | null | undefined;
  do {
    const page = await readFeed(db, userId, { limit, ...(cursor && { cursor }) }, cache);
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor);
  return items;
}

export const ids = (items: readonly { postId: number }[]): number[] => items.map((item) => item.postId);

/** Inserts posts without fan-out: the truth changes, and feed rows do not. Post n has id n. */
export async function plantPosts(
  db: Queryable,
  posts: readonly { id: number; authorId: number }[],
): Promise<void> {
  await db.query(
    `insert into posts (id, author_id, body, created_at)
     select id, author, 'post ' || id, now() from unnest($1::bigint[], $2::bigint[]) p(id, author)`,
    [posts.map((post) => post.id), posts.map((post) => post.authorId)],
  );
}

export async function plantUsers(db: Queryable, count: number): Promise<void> {
  await db.query('insert into users (id) select generate_series(1, $1::bigint)', [count]);
}

/** Inserts both sides of follows, without a backfill. */
export async function plantFollows(
  db: Queryable,
  pairs: readonly [follower: number, followee: number][],
): Promise<void> {
  const values = [pairs.map((pair) => pair[0]), pairs.map((pair) => pair[1])];
  await db.query(
    'insert into follows (follower_id, followee_id) select * from unnest($1::bigint[], $2::bigint[])',
    values,
  );
  await db.query(
    'insert into followers (follower_id, followee_id) select * from unnest($1::bigint[], $2::bigint[])',
    values,
  );
}

export async function makeCelebrity(db: Queryable, authorId: number, state: 'both' | 'pull'): Promise<void> {
  await db.query('update users set push_state = $2 where id = $1', [authorId, state]);
  await db.query('insert into celebrities (user_id, state) values ($1, $2)', [authorId, state]);
}

/** Returns the expected feed, newest first: posts of followed authors and the reader's own. */
export async function truth(db: Queryable, userId: number): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `select id from posts where deleted_at is null
       and (author_id = $1 or author_id in (select followee_id from follows where follower_id = $1))
     order by id desc`,
    [userId],
  );
  return rows.map((row) => row.id);
}
