import type { Database } from '../../src/engine/database/database.ts';
import type { Pair } from '../../src/engine/store/follows.ts';

/**
 * Inserts all rows of handled follows and posts in one statement. The engine would need dozens of
 * steps, and a history is about later steps. In: pairs (repeats count once), posts.
 */
const INSERT = `
  with pairs as (
    select * from unnest($1::bigint[], $2::bigint[]) t(follower_id, followee_id) group by 1, 2
  ), new_posts as (
    select * from unnest($3::bigint[], $4::bigint[], $5::text[]) t(id, author_id, body)
  ), followed as (
    insert into follows (follower_id, followee_id) select * from pairs
  ), mirrored as (
    insert into followers (follower_id, followee_id) select * from pairs
  ), counted as (
    update users set follower_count = n
    from (select followee_id, count(*) as n from pairs group by 1) c where users.id = c.followee_id
  ), posted as (
    insert into posts (id, author_id, body, created_at)
    select id, author_id, body, clock_timestamp() from new_posts
  )
  insert into feed_items (user_id, post_id, author_id)
  select follower_id, id, author_id from pairs join new_posts on author_id = followee_id`;

export async function insertSettled(
  db: Database,
  pairs: readonly Pair[],
  posts: readonly { id: number; authorId: number; text: string }[],
): Promise<void> {
  await db.query(INSERT, [
    pairs.map((pair) => pair.followerId),
    pairs.map((pair) => pair.followeeId),
    posts.map((post) => post.id),
    posts.map((post) => post.authorId),
    posts.map((post) => post.text),
  ]);
}
