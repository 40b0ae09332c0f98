import type { Queryable } from '../database/database.ts';
import type { Post } from '../model/post.ts';
import { followingPairs } from '../store/follows.ts';
import { storedPosts } from '../store/posts.ts';

/**
 * A post and a user who may see it. Follows are in the shard of the follower and posts in that of
 * the author, so two statements run at the same time. Each reads the current state, and a post is
 * sent only if both allow it.
 */
export interface AddressedPost {
  readonly userId: number;
  readonly post: Post;
}

/** Returns posts that are not deleted, by id. */
async function alivePosts(
  db: Queryable,
  records: readonly { authorId: number; postId: number }[],
): Promise<Map<number, Post>> {
  const distinct = new Map(records.map((record) => [record.postId, record]));
  const stored = await storedPosts(db, [...distinct.values()]);
  return new Map(stored.flatMap(({ deleted, ...post }) => (deleted ? [] : [[post.id, post]])));
}

/** Returns posts that are not deleted, for recipients who follow the authors now. */
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

/** Returns which of `userIds` follow which authors now. */
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

/** Returns posts that are not deleted, for those of `userIds` who follow the authors now. */
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
