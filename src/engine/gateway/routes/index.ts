import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { FeedCache } from '../../cache/cache.ts';
import { FeedctlError } from '../../model/errors.ts';
import type { SocialContext } from '../../social/context.ts';
import type { Passwords } from '../../social/passwords.ts';
import type { Span } from '../../telemetry/tracing.ts';
import type { Limiter } from '../rateLimits.ts';
import type { Tokens } from '../tokens.ts';
import { addAdminRoutes, type GatewayAdmin } from './admin.ts';
import { addFriendRoutes } from './friends.ts';
import { addPage } from './page.ts';
import { addPostRoutes } from './posts.ts';
import { addServiceRoutes } from './service.ts';
import { addUserRoutes } from './users.ts';

export interface RouteContext extends SocialContext {
  readonly cache: FeedCache;
  readonly tokens: Tokens;
  readonly passwords: Passwords;
  readonly limiter: Limiter;
  /** Throws where the gateway should get no traffic. */
  readonly checkReady: () => Promise<void>;
  readonly admin: GatewayAdmin;
}

export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** A post or a follow: limited further. */
    readonly writes?: boolean;
    /** Asked by machines that watch: not limited. */
    readonly unlimited?: boolean;
  }
  interface FastifyRequest {
    /** Who asks; 0 for nobody, which no route with BEARER in its schema ever sees. */
    userId: number;
    /** Where requests are traced. */
    span: Span | undefined;
  }
}

export function addRoutes(app: App, context: RouteContext): void {
  addUserRoutes(app, context);
  addFriendRoutes(app, context);
  addPostRoutes(app, context);
  addServiceRoutes(app, context);
  addAdminRoutes(app, context);
  addPage(app);
  app.setNotFoundHandler((request) => {
    throw Object.assign(
      new FeedctlError('USAGE', `there is no ${request.method} ${request.url.split('?')[0]}`),
      { statusCode: 404 },
    );
  });
}
