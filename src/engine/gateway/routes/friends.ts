import { parseId } from '../../model/ids.ts';
import { follow, unfollow } from '../../social/follows.ts';
import { followeesOf } from '../../store/follows.ts';
import { usersOf } from '../../store/users.ts';
import type { App, RouteContext } from './context.ts';
import * as schemas from './schemas.ts';
import { userJson } from './users.ts';

export function addFriendRoutes(app: App, context: RouteContext): void {
  for (const [name, act, summary] of [
    ['set', follow, 'Follow a user'],
    ['delete', unfollow, 'Stop following a user'],
  ] as const) {
    app.put(
      `/friend/${name}/:user_id`,
      {
        config: { writes: true },
        schema: {
          summary,
          security: schemas.BEARER,
          params: schemas.UserIdParam,
          response: schemas.answers(
            { 200: schemas.Changed },
            ...schemas.REFUSED,
            ...schemas.BODY_REFUSED,
            ...schemas.TOKEN_REFUSED,
            422,
          ),
        },
      },
      async (request) => {
        const followeeId = parseId(request.params.user_id, 'user');
        return { changed: await act(context, { followerId: request.userId, followeeId }) };
      },
    );
  }

  const { db } = context;
  app.get(
    '/friend/list',
    {
      schema: {
        summary: 'List the users that I follow, ordered by id; the `Link` header leads to the next page',
        security: schemas.BEARER,
        querystring: schemas.FolloweesQuery,
        response: schemas.answers({ 200: schemas.Users }, ...schemas.REFUSED, ...schemas.TOKEN_REFUSED),
      },
    },
    async ({ userId, query }, reply) => {
      const { after = '0', limit = schemas.DEFAULT_SEARCH } = query;
      const page = { followerId: userId, after: Number(after), limit };
      const ids = await db.retry(() => followeesOf(db, page));
      if (ids.length === limit)
        void reply.header('link', `</friend/list?limit=${limit}&after=${ids.at(-1)}>; rel="next"`);
      return (await db.retry(() => usersOf(db, ids))).map(userJson);
    },
  );
}
