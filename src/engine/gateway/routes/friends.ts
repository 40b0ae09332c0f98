import { parseId } from '../../model/ids.ts';
import { follow, unfollow } from '../../social/follows.ts';
import type { App, RouteContext } from './context.ts';
import * as schemas from './schemas.ts';

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
}
