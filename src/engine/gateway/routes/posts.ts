import { pageAtOffset } from '../../feed/read/offset.ts';
import { type FeedPage, readFeed, readFeedUnconfirmed } from '../../feed/read/read.ts';
import { isFeedctlError } from '../../model/errors.ts';
import { MAX_ID, parseId } from '../../model/ids.ts';
import type { Post } from '../../model/post.ts';
import { isUnavailable } from '../../resilience/guard.ts';
import { createPost, deletePost, updatePost } from '../../social/posts.ts';
import { getPost, postsOf } from '../../store/posts.ts';
import { getUser } from '../../store/users.ts';
import type { App, RouteContext } from './context.ts';
import * as schemas from './schemas.ts';

const postJson = (post: Omit<Post, 'version'>) => ({
  id: String(post.id),
  text: post.body,
  author_user_id: String(post.authorId),
  createdAt: post.createdAt.toISOString(),
});
/** Returns whether the database cannot be used; an open circuit counts too. */
const isDown = (error: unknown) => isUnavailable(error) || isFeedctlError(error, 'CIRCUIT_OPEN');

const versionedJson = (post: Post) => ({ ...postJson(post), version: post.version });

export function addPostRoutes(app: App, context: RouteContext): void {
  addPostChanges(app, context);
  addPostReading(app, context);
  addFeedReading(app, context);
}

function addPostChanges(app: App, context: RouteContext): void {
  app.post(
    '/post/create',
    {
      config: { writes: true },
      schema: {
        summary: 'Post a text',
        security: schemas.BEARER,
        headers: schemas.IdempotencyHeader,
        body: schemas.NewPost,
        response: schemas.answers(
          { 201: schemas.Post },
          ...schemas.REFUSED,
          ...schemas.BODY_REFUSED,
          ...schemas.TOKEN_REFUSED,
          422,
        ),
      },
    },
    async (request, reply) => {
      const key = request.headers['idempotency-key'];
      const { span } = request;
      const options = { key, traceparent: span?.traceparent };
      const post = await createPost(context, request.userId, request.body.text, options);
      span?.set({ 'feedctl.post.id': String(post.id) });
      return reply.code(201).send(versionedJson(post));
    },
  );

  app.put(
    '/post/update',
    {
      config: { writes: true },
      schema: {
        summary: 'Change the text of my post',
        security: schemas.BEARER,
        body: schemas.PostUpdate,
        response: schemas.answers(
          { 200: schemas.Post },
          ...schemas.REFUSED,
          ...schemas.BODY_REFUSED,
          ...schemas.TOKEN_REFUSED,
          409,
          422,
        ),
      },
    },
    async (request) => {
      const { id, text, version } = request.body;
      const options = { authorId: request.userId, ...(version !== undefined && { version }) };
      return versionedJson(await updatePost(context, parseId(id, 'post'), text, options));
    },
  );

  app.put(
    '/post/delete/:id',
    {
      config: { writes: true },
      schema: {
        summary: 'Delete my post',
        security: schemas.BEARER,
        params: schemas.IdParam,
        response: schemas.answers(
          { 200: schemas.Deleted },
          ...schemas.REFUSED,
          ...schemas.BODY_REFUSED,
          ...schemas.TOKEN_REFUSED,
        ),
      },
    },
    async (request) => {
      await deletePost(context, parseId(request.params.id, 'post'), { authorId: request.userId });
      return { deleted: true as const };
    },
  );
}

function addPostReading(app: App, { db }: RouteContext): void {
  app.get(
    '/post/get/:id',
    {
      schema: {
        summary: 'Get a post',
        params: schemas.IdParam,
        response: schemas.answers({ 200: schemas.Post }, ...schemas.REFUSED, 404),
      },
    },
    async (request) => {
      const id = parseId(request.params.id, 'post');
      return versionedJson(await db.retry(() => getPost(db, id)));
    },
  );

  app.get(
    '/post/list/:user_id',
    {
      schema: {
        summary: 'List the posts of a user, newest first; the `Link` header leads to the next page',
        params: schemas.UserIdParam,
        querystring: schemas.PostsQuery,
        response: schemas.answers({ 200: schemas.Posts }, ...schemas.REFUSED, 404),
      },
    },
    async ({ params, query }, reply) => {
      const { limit = schemas.DEFAULT_PAGE, before } = query;
      const authorId = parseId(params.user_id, 'user');
      const page = { authorId, before: before === undefined ? MAX_ID : Number(before), limit };
      const posts = await db.retry(() => postsOf(db, page));
      // The usual case costs one statement.
      if (posts.length === 0) await db.retry(() => getUser(db, authorId));
      if (posts.length === limit)
        void reply.header(
          'link',
          `</post/list/${authorId}?limit=${limit}&before=${posts.at(-1)!.id}>; rel="next"`,
        );
      return posts.map(versionedJson);
    },
  );
}

function addFeedReading(app: App, context: RouteContext): void {
  const { db, cache } = context;
  // A page that has not changed is the same object, whose JSON is kept with it.
  const rendered = new WeakMap<FeedPage['items'], string>();
  app.get(
    '/post/feed',
    {
      schema: {
        summary: 'Read my feed, newest first; the `Link` header leads to the next page',
        security: schemas.BEARER,
        querystring: schemas.FeedQuery,
        response: schemas.answers({ 200: schemas.FeedPage }, ...schemas.REFUSED, ...schemas.TOKEN_REFUSED),
      },
    },
    async (request, reply) => {
      const { limit = schemas.DEFAULT_PAGE, offset = 0, before } = request.query;
      const query = { limit, ...(before && { cursor: before }) };
      const { userId } = request;
      const read = (query: { limit: number; cursor?: string }) =>
        db.retry(async () => {
          try {
            return await readFeed(db, userId, query, cache);
          } catch (error) {
            const page = isDown(error) && (await readFeedUnconfirmed(db, userId, query, cache));
            if (!page) throw error;
            void reply.header('cache-status', 'feedctl; hit; detail="the database is unavailable"');
            return page;
          }
        });
      const page = offset === 0 ? await read(query) : await pageAtOffset(read, query, offset);
      context.stats?.recordRead(userId);
      if (page.nextCursor)
        void reply.header('link', `</post/feed?limit=${limit}&before=${page.nextCursor}>; rel="next"`);
      let json = rendered.get(page.items);
      if (json === undefined) {
        json = JSON.stringify(page.items.map((item) => postJson({ ...item, id: item.postId })));
        rendered.set(page.items, json);
      }
      return reply.type('application/json; charset=utf-8').send(json);
    },
  );
}
