import { isDuplicate } from '../database/errors.ts';
import type { Queryable } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';
import { checkPostText, type Post } from '../model/post.ts';
import { getPost, insertPost, insertPostOnce, markPostDeleted, updatePostBody } from '../store/posts.ts';
import { commit, dispatchCommitted, type SocialContext } from './context.ts';

/**
 * Commits a post and its event. Fan-out to feeds and sockets is asynchronous: the call takes
 * equally long for an author with 20,000 followers and for one without.
 *
 * `traceparent`: trace context of the request. `key`: an idempotency key; the post of an earlier
 * call with the same key is returned. Throws POST_EMPTY, POST_TOO_LONG, TEXT_INVALID,
 * USER_NOT_FOUND or IDEMPOTENCY_KEY_REUSED.
 */
export async function createPost(
  context: SocialContext,
  authorId: number,
  text: string,
  options: { dryRun?: boolean; key?: string | undefined; traceparent?: string | undefined } = {},
): Promise<Post> {
  checkPostText(text);
  const { key, traceparent } = options;
  const [id, eventId] = await context.db.retry(() => context.ids.take(2));
  const post = { id: id!, authorId, body: text, eventId: eventId!, traceparent };
  if (options.dryRun) return context.db.rehearse((session) => insertPost(session, post));
  const event = {
    ...({ id: eventId!, type: 'post.created', aggregateId: authorId, subjectId: post.id } as const),
    traceparent,
  };
  const insert = (db: Queryable, dispatched: boolean) =>
    key === undefined
      ? insertPost(db, { ...post, dispatched })
      : insertPostOnce(db, { ...post, key, dispatched });
  // Every try uses the same ids, so a post that was committed without an answer is found and not
  // made twice.
  const { result: created, dispatched } = await context.db.retry(async (isRetry) => {
    try {
      return await commit(context, event, insert, ({ id }) => id === post.id);
    } catch (error) {
      if (!isRetry || !isDuplicate(error)) throw error;
      return { result: await getPost(context.db, post.id), dispatched: false };
    }
  });
  if (created.id !== post.id) return created;
  context.stats?.count('created', 1);
  context.log.debug?.({ postId: post.id, eventId, authorId }, 'post committed');
  await Promise.all([
    !dispatched && dispatchCommitted(context, [event]),
    context.changes.posted([{ postId: post.id, authorId }]),
  ]);
  return created;
}

/**
 * Changes the text that feeds show. Sockets get it as `createPost` describes. Throws POST_NOT_FOUND,
 * VERSION_CONFLICT, or as `createPost`.
 */
export async function updatePost(
  context: SocialContext,
  postId: number,
  text: string,
  options: { authorId?: number; version?: number } = {},
): Promise<Post> {
  checkPostText(text);
  const post = await ownPost(context, postId, options.authorId);
  const eventId = await context.ids.next();
  const { version } = options;
  const { authorId } = post;
  const event = { id: eventId, type: 'post.updated', aggregateId: authorId, subjectId: postId } as const;
  const change = { id: postId, authorId, body: text, eventId, ...(version !== undefined && { version }) };
  const { result: updated, dispatched } = await commit(
    context,
    event,
    (db, dispatched) => updatePostBody(db, { ...change, dispatched }),
    (updated) => updated !== undefined,
  );
  if (!updated)
    throw new FeedctlError(
      'VERSION_CONFLICT',
      `post ${postId} has changed since version ${version ?? post.version}`,
    );
  await Promise.all([
    !dispatched && dispatchCommitted(context, [event]),
    context.changes.edited({ postId, authorId }, async () => updated),
  ]);
  return updated;
}

async function ownPost(context: SocialContext, postId: number, authorId: number | undefined): Promise<Post> {
  const post = await getPost(context.db, postId);
  if (authorId !== undefined && post.authorId !== authorId) {
    throw new FeedctlError('POST_NOT_FOUND', `user ${authorId} has no post ${postId}`);
  }
  return post;
}

/** Deletes a post. `authorId`: the post must be by this author. Throws POST_NOT_FOUND. */
export async function deletePost(
  context: SocialContext,
  postId: number,
  options: { authorId?: number; dryRun?: boolean } = {},
): Promise<Post> {
  const post = await ownPost(context, postId, options.authorId);
  if (options.dryRun) return post;
  const eventId = await context.ids.next();
  const { authorId } = post;
  const event = { id: eventId, type: 'post.deleted', aggregateId: authorId, subjectId: postId } as const;
  const { dispatched } = await commit(
    context,
    event,
    (db, dispatched) => markPostDeleted(db, { id: postId, authorId, eventId, dispatched }),
    () => true,
  );
  await Promise.all([
    !dispatched && dispatchCommitted(context, [event]),
    context.changes.deleted({ postId, authorId }),
  ]);
  return post;
}
