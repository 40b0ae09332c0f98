import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { FeedCache } from '../../cache/cache.ts';
import type { Identity } from '../../identity/identity.ts';
import type { Connection } from '../../live/hub.ts';
import type { SocialContext } from '../../social/context.ts';
import type { Passwords } from '../../social/passwords.ts';
import type { Span } from '../../telemetry/tracing.ts';
import type { ClusterView } from '../operator/clusterView.ts';
import type { Limiter } from '../rateLimits.ts';
import type { Tokens } from '../tokens.ts';

/** Everything that the routes of a gateway need. */
export interface RouteContext extends SocialContext {
  readonly cache: FeedCache;
  readonly tokens: Tokens;
  readonly passwords: Passwords;
  readonly limiter: Limiter;
  /** Throws while the gateway should get no traffic. */
  readonly checkReady: () => Promise<void>;
  readonly admin: GatewayAdmin;
  /** Undefined at a gateway that shows no cluster. */
  readonly clusterView?: ClusterView | undefined;
  readonly identity?: Pick<Identity, 'cluster'> | undefined;
}

/** Operations of an operator on one gateway. */
export interface GatewayAdmin {
  readonly id: string;
  readonly sockets: number;
  connections(userId?: number): Iterable<Connection>;
  /** Begins to stop this gateway's process; undefined where the process is more than a gateway. */
  readonly drain: (() => void) | undefined;
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
    /** The route posts or follows: a lower limit applies too. */
    readonly writes?: boolean;
    /** The route is for monitoring or for operators: no limit applies. */
    readonly unlimited?: boolean;
    /** The route shows the cluster to operators: no token of a user is accepted. */
    readonly operator?: boolean;
  }
  interface FastifyRequest {
    /** The user of the token; 0 without one, which a route with BEARER in its schema never gets. */
    userId: number;
    /** Span of the request; undefined where requests are not traced. */
    span: Span | undefined;
  }
}
