import type { Queryable } from '../database/database.ts';
import type { Post } from '../model/post.ts';
import { followingPairs } from '../store/follows.ts';
import { storedPosts } from '../store/posts.ts';

/**
 * Follows are in the shard of the follower and posts in that of the author: two statements, at the same time. Each
 * says what is true when it is asked, and a post that either refuses is not sent.
 */
export interface AddressedPost {
  readonly userId: number;
  readonly post: Post;
}

/** Those that are not deleted, by id. */
async function alivePosts(
  db: Queryable,
  records: readonly { authorId: number; postId: number }[],
): Promise<Map<number, Post>> {
  const distinct = new Map(records.map((record) => [record.postId, record]));
  const stored = await storedPosts(db, [...distinct.values()]);
  return new Map(stored.flatMap(({ deleted, ...post }) => (deleted ? [] : [[post.id, post]])));
}

/** The posts, for those of the recipients who follow their authors now; without the deleted ones. */
export async function postsForUsers(
  db: Queryable,
  records: readonly { userId: number; authorId: number; postId: number }[],
): Promise<AddressedPost[]> {
  const pairs = records.map(({ userId, authorId, postId }) => {
    return { followerId: userId, followeeId: authorId, postId };
  });
  const [alive, following] = await Promise.all([alivePosts(db, records), followingPairs(db, pairs)]);
  return following.flatMap(({ followerId, postId }) => {
    const post = alive.get(postId);
    return post ? [{ post, userId: followerId }] : [];
  });
}

/** Who of `userIds` follows which of the authors now. */
export async function followersAmong(
  db: Queryable,
  authorIds: readonly number[],
  userIds: readonly number[],
): Promise<{ userId: number; authorId: number }[]> {
  const { rows } = await db.query<{ userId: number; authorId: number }>(
    `select follower_id as "userId", followee_id as "authorId" from follows
     where follower_id = any($1) and followee_id = any($2)`,
    [userIds, authorIds],
  );
  return rows;
}

/** The posts, for those of `userIds` who follow their authors now; without the deleted ones. */
export async function postsForFollowers(
  db: Queryable,
  records: readonly { authorId: number; postId: number }[],
  userIds: readonly number[],
): Promise<AddressedPost[]> {
  const authors = [...new Set(records.map((record) => record.authorId))];
  const [alive, follows] = await Promise.all([alivePosts(db, records), followersAmong(db, authors, userIds)]);
  const byAuthor = Map.groupBy(alive.values(), (post) => post.authorId);
  return follows.flatMap(({ userId, authorId }) =>
    (byAuthor.get(authorId) ?? []).map((post) => ({ post, userId })),
  );
}
