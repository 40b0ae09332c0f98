import type { Post } from '../model/post.ts';
import type { Queryable } from './database.ts';

/**
 * Follows are in the shard of the follower and posts in that of the author: two statements, at the same time. Each
 * says what is true when it is asked, and a post that either refuses is not sent.
 */
export interface AddressedPost extends Post {
  readonly userId: number;
}

/** In: authors, posts. Those that are not deleted. */
const POSTS = `
  select p.id, p.author_id as "authorId", p.body, p.created_at as "createdAt", p.version
  from unnest($1::bigint[], $2::bigint[]) r(author_id, post_id)
  join posts p on p.author_id = r.author_id and p.id = r.post_id and p.deleted_at is null
  where p.author_id = any($1)`;

async function posts(
  db: Queryable,
  records: readonly { authorId: number; postId: number }[],
): Promise<Map<number, Post>> {
  const distinct = [...new Map(records.map((record) => [record.postId, record.authorId]))];
  const { rows } = await db.query<Post>(POSTS, [
    distinct.map(([, author]) => author),
    distinct.map(([id]) => id),
  ]);
  return new Map(rows.map((row) => [row.id, row]));
}

/** The posts, for those of the recipients who follow their authors now; without the deleted ones. */
export async function postsForUsers(
  db: Queryable,
  records: readonly { userId: number; authorId: number; postId: number }[],
): Promise<AddressedPost[]> {
  const [alive, follows] = await Promise.all([
    posts(db, records),
    db.query<{ nth: number }>(
      `select r.nth::integer as nth from unnest($1::bigint[], $2::bigint[]) with ordinality r(user_id, author_id, nth)
       join follows f on f.follower_id = r.user_id and f.followee_id = r.author_id where f.follower_id = any($1)`,
      [records.map((r) => r.userId), records.map((r) => r.authorId)],
    ),
  ]);
  return follows.rows.flatMap(({ nth }) => {
    const { userId, postId } = records[nth - 1]!;
    const post = alive.get(postId);
    return post ? [{ ...post, userId }] : [];
  });
}

/** The posts, for those of `userIds` who follow their authors now; without the deleted ones. */
export async function postsForFollowers(
  db: Queryable,
  records: readonly { authorId: number; postId: number }[],
  userIds: readonly number[],
): Promise<AddressedPost[]> {
  const [alive, follows] = await Promise.all([
    posts(db, records),
    db.query<{ userId: number; authorId: number }>(
      `select follower_id as "userId", followee_id as "authorId" from follows
       where follower_id = any($1) and followee_id = any($2)`,
      [userIds, [...new Set(records.map((record) => record.authorId))]],
    ),
  ]);
  const byAuthor = Map.groupBy(alive.values(), (post) => post.authorId);
  return follows.rows.flatMap(({ userId, authorId }) =>
    (byAuthor.get(authorId) ?? []).map((post) => ({ ...post, userId })),
  );
}
