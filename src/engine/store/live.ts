import type { Post } from '../model/post.ts';
import type { Queryable } from './database.ts';

export interface AddressedPost extends Post {
  readonly userId: number;
}

const POST = `p.id, p.author_id as "authorId", p.body, p.created_at as "createdAt", p.version`;

/** The posts, for those of the recipients who follow their authors now; without the deleted ones. */
export async function postsForUsers(
  db: Queryable,
  records: readonly { userId: number; authorId: number; postId: number }[],
): Promise<AddressedPost[]> {
  const { rows } = await db.query<AddressedPost>(
    `select r.user_id as "userId", ${POST}
     from unnest($1::bigint[], $2::bigint[], $3::bigint[]) r(user_id, author_id, post_id)
     join follows f on f.follower_id = r.user_id and f.followee_id = r.author_id
     join posts p on p.author_id = r.author_id and p.id = r.post_id and p.deleted_at is null`,
    [records.map((r) => r.userId), records.map((r) => r.authorId), records.map((r) => r.postId)],
  );
  return rows;
}

/** The posts, for those of `userIds` who follow their authors now; without the deleted ones. */
export async function postsForFollowers(
  db: Queryable,
  records: readonly { authorId: number; postId: number }[],
  userIds: readonly number[],
): Promise<AddressedPost[]> {
  const { rows } = await db.query<AddressedPost>(
    `select f.follower_id as "userId", ${POST}
     from unnest($1::bigint[], $2::bigint[]) r(author_id, post_id)
     join follows f on f.follower_id = any($3) and f.followee_id = r.author_id
     join posts p on p.author_id = r.author_id and p.id = r.post_id and p.deleted_at is null`,
    [records.map((r) => r.authorId), records.map((r) => r.postId), userIds],
  );
  return rows;
}
