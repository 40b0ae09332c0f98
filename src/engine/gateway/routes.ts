import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { FeedCache } from '../cache/cache.ts';
import { MAX_PAGE, readFeed } from '../feed/read.ts';
import { FeedctlError } from '../model/errors.ts';
import { parseId } from '../model/ids.ts';
import type { Post } from '../model/post.ts';
import type { SocialContext } from '../social/context.ts';
import { follow, unfollow } from '../social/follows.ts';
import { createPost, deletePost, updatePost } from '../social/posts.ts';
import { getPost } from '../store/posts.ts';
import { getUser } from '../store/users.ts';

const DEFAULT_PAGE = 20;

export interface RouteContext extends SocialContext {
  readonly cache: FeedCache;
  readonly checkToken: (token: string) => Promise<number>;
  /** Throws where the gateway should get no traffic. */
  readonly checkReady: () => Promise<void>;
}

/** Ids are strings on the wire: clients whose numbers are 32 bits keep them whole. */
const postJson = (post: Omit<Post, 'version'>) => ({
  id: String(post.id),
  text: post.body,
  author_user_id: String(post.authorId),
  createdAt: post.createdAt.toISOString(),
});

const idSchema = { type: 'string', pattern: '^[0-9]{1,16}$' };
const idParam = (name: string) => ({ type: 'object', properties: { [name]: idSchema }, required: [name] });

export function addRoutes(app: FastifyInstance, context: RouteContext): void {
  const caller = async (request: FastifyRequest): Promise<number> => {
    const [scheme, token = ''] = (request.headers.authorization ?? '').split(' ');
    return context.checkToken(scheme?.toLowerCase() === 'bearer' ? token : '');
  };

  app.get('/healthz', async () => ({ status: 'ok' }));
  app.get('/readyz', async () => {
    await context.checkReady();
    return { status: 'ready' };
  });

  app.get<{ Params: { id: string } }>(
    '/user/get/:id',
    { schema: { params: idParam('id') } },
    async (request) => {
      const id = parseId(request.params.id, 'user');
      const user = await context.db.repeat(() => getUser(context.db, id));
      return { id: String(user.id), first_name: user.firstName, second_name: user.secondName };
    },
  );

  for (const [name, act] of [
    ['set', follow],
    ['delete', unfollow],
  ] as const) {
    app.put<{ Params: { user_id: string } }>(
      `/friend/${name}/:user_id`,
      { schema: { params: idParam('user_id') } },
      async (request) => {
        const followerId = await caller(request);
        const changed = await act(context, {
          followerId,
          followeeId: parseId(request.params.user_id, 'user'),
        });
        return { changed };
      },
    );
  }

  app.post<{ Body: { text: string } }>(
    '/post/create',
    { schema: { body: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] } } },
    async (request, reply) => {
      const post = await createPost(context, await caller(request), request.body.text);
      return reply.code(201).send({ ...postJson(post), version: post.version });
    },
  );
  app.put<{ Body: { id: string; text: string; version?: number } }>(
    '/post/update',
    {
      schema: {
        body: {
          type: 'object',
          properties: {
            id: idSchema,
            text: { type: 'string' },
            version: { type: 'integer', minimum: 1, maximum: 2_147_483_647 },
          },
          required: ['id', 'text'],
        },
      },
    },
    async (request) => {
      const authorId = await caller(request);
      const { id, text, version } = request.body;
      const options = { authorId, ...(version !== undefined && { version }) };
      const post = await updatePost(context, parseId(id, 'post'), text, options);
      return { ...postJson(post), version: post.version };
    },
  );
  app.put<{ Params: { id: string } }>(
    '/post/delete/:id',
    { schema: { params: idParam('id') } },
    async (request) => {
      const userId = await caller(request);
      await deletePost(context, parseId(request.params.id, 'post'), { authorId: userId });
      return { deleted: true };
    },
  );
  app.get<{ Params: { id: string } }>(
    '/post/get/:id',
    { schema: { params: idParam('id') } },
    async (request) => {
      const id = parseId(request.params.id, 'post');
      const post = await context.db.repeat(() => getPost(context.db, id));
      return { ...postJson(post), version: post.version };
    },
  );

  app.get<{ Querystring: { limit: string; before?: string } }>(
    '/post/feed',
    {
      schema: {
        querystring: {
          type: 'object',
          properties: {
            limit: { type: 'string', pattern: '^[0-9]{1,4}$', default: String(DEFAULT_PAGE) },
            before: idSchema,
          },
        },
      },
    },
    async (request, reply) => {
      const userId = await caller(request);
      const { before } = request.query;
      const limit = Number(request.query.limit);
      if (limit < 1 || limit > MAX_PAGE)
        throw new FeedctlError('USAGE', `limit is ${limit}; it may be 1 to ${MAX_PAGE}`);
      const query = { limit, ...(before && { cursor: before }) };
      const page = await context.db.repeat(() => readFeed(context.db, userId, query, context.cache));
      if (page.nextCursor)
        void reply.header('link', `</post/feed?limit=${limit}&before=${page.nextCursor}>; rel="next"`);
      return page.items.map((item) => postJson({ ...item, id: item.postId }));
    },
  );

  app.setNotFoundHandler((request) => {
    throw Object.assign(
      new FeedctlError('USAGE', `there is no ${request.method} ${request.url.split('?')[0]}`),
      { statusCode: 404 },
    );
  });
}
