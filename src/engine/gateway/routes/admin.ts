import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Connection } from '../../live/hub.ts';
import { FeedctlError } from '../../model/errors.ts';
import { bearerOf } from '../bearer.ts';
import type { App, RouteContext } from './context.ts';
import { Id } from './schemas.ts';

/** Response of `/admin/connections`. Ids are strings, times are ISO 8601. */
export interface ConnectionsAnswer {
  readonly gatewayId: string;
  /** Number of sockets, of the user in the query or of all users. */
  readonly total: number;
  readonly connections: readonly (Omit<Connection, 'userId' | 'since'> & {
    readonly userId: string;
    readonly since: string;
  })[];
}

/**
 * Response of `/admin/readers`: the users that read most at this gateway, with approximate counts.
 */
export interface ReadersAnswer {
  readonly readers: readonly { readonly userId: string; readonly reads: number }[];
}

const MAX_CONNECTIONS = 10_000;
const MAX_READERS = 10_000;
const ReadersQuery = Type.Object({ limit: Type.Integer({ minimum: 1, maximum: MAX_READERS }) });
const Query = Type.Object({
  user: Type.Optional(Id),
  limit: Type.Optional(Type.Integer({ minimum: 0, maximum: MAX_CONNECTIONS, default: MAX_CONNECTIONS })),
});

/**
 * Adds routes for commands, with an operator token. They are no part of the API and have no limit.
 */
export function addAdminRoutes(app: App, { tokens, admin, cache }: RouteContext): void {
  const onRequest = (request: FastifyRequest) => tokens.checkOperator(bearerOf(request));
  const config = { unlimited: true };

  app.get(
    '/admin/connections',
    { onRequest, config, schema: { hide: true, querystring: Query } },
    async (request): Promise<ConnectionsAnswer> => {
      const { user, limit = MAX_CONNECTIONS } = request.query;
      const connections: ConnectionsAnswer['connections'][number][] = [];
      let total = 0;
      for (const { userId, since, ...rest } of admin.connections(
        user === undefined ? undefined : Number(user),
      )) {
        total += 1;
        if (connections.length < limit)
          connections.push({ userId: String(userId), since: since.toISOString(), ...rest });
      }
      return { gatewayId: admin.id, total, connections };
    },
  );

  app.get(
    '/admin/readers',
    { onRequest, config, schema: { hide: true, querystring: ReadersQuery } },
    async ({ query }): Promise<ReadersAnswer> => {
      const hot = cache.pages?.hotReaders(query.limit) ?? [];
      return { readers: hot.map(({ userId, reads }) => ({ userId: String(userId), reads })) };
    },
  );

  app.post('/admin/drain', { onRequest, config, schema: { hide: true } }, async (_, reply) => {
    const { id, sockets, drain } = admin;
    if (!drain)
      throw new FeedctlError('USAGE', 'this gateway is part of `feedctl up`; stop it with `feedctl down`');
    drain();
    return reply.code(202).send({ gatewayId: id, sockets });
  });
}
