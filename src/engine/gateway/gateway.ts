import { randomUUID } from 'node:crypto';
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from 'fastify';
import type { FeedCache } from '../cache/cache.ts';
import { type Connection, openHub } from '../live/hub.ts';
import { joinCluster } from '../live/membership.ts';
import { confirmUnfollows } from '../live/unfollows.ts';
import { type ErrorCode, FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import { Resources } from '../resources.ts';
import type { SocialContext } from '../social/context.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { listenError } from '../telemetry/metricsServer.ts';
import { openTokenCheck } from './auth.ts';
import { addRoutes } from './routes.ts';
import { type SocketOptions, serveSockets } from './sockets.ts';

/** Of the time for stopping, what closing the sockets may take: their clients come back one after the other. */
const DRAIN_SHARE = 0.5;
const BODY_LIMIT_BYTES = 64 * 1024;

/** Everything else is the server's fault, 500, or a dependency's, 503. */
const HTTP_STATUS: Partial<Record<ErrorCode, number>> = {
  CIRCUIT_OPEN: 503,
  CONFIG_INVALID: 400,
  DATABASE_UNREACHABLE: 503,
  INVALID_ID: 400,
  INVALID_TOKEN: 401,
  NODE_NUMBERS_EXHAUSTED: 503,
  NOT_LIVE: 503,
  OVERLOADED: 503,
  POST_EMPTY: 422,
  POST_NOT_FOUND: 404,
  POST_TOO_LONG: 422,
  QUEUE_FULL: 503,
  SELF_FOLLOW: 422,
  TEXT_INVALID: 422,
  TIMED_OUT: 503,
  USAGE: 400,
  USER_EXISTS: 409,
  USER_NOT_FOUND: 404,
  VERSION_CONFLICT: 409,
};

export interface GatewayOptions {
  readonly host: string;
  readonly port: number;
  readonly sockets?: SocketOptions | undefined;
}

export interface Gateway {
  readonly id: string;
  /** Where it listens, e.g. http://127.0.0.1:8080. */
  readonly url: string;
  readonly sockets: number;
  readonly pushed: number;
  /** Its open sockets, or those of one user. */
  connections(userId?: number): Iterable<Connection>;
  /** Takes no more sockets, and closes those that are open over half of that time; then everything else. */
  stop(deadlineMs: number): Promise<void>;
}

/** HTTP and WebSockets on one port. Throws PORT_TAKEN. */
export async function startGateway(
  context: SocialContext & { cache: FeedCache; metrics?: Metrics | undefined },
  options: GatewayOptions,
): Promise<Gateway> {
  const { db, log, metrics } = context;
  const resources = new Resources();
  let deadline = 5_000;
  try {
    const checkToken = await openTokenCheck(db);
    const answerError = (error: FastifyError | FeedctlError, reply: FastifyReply) => {
      const known = isFeedctlError(error);
      const status =
        (error as FastifyError).statusCode ?? (known ? HTTP_STATUS[error.code] : undefined) ?? 500;
      if (status >= 500) log.error({ reason: messageOf(error) }, 'request failed');
      const code = known ? error.code : status < 500 ? 'USAGE' : 'INTERNAL';
      const message = status === 500 ? 'the server failed to answer; its log says why' : error.message;
      void reply.code(status).send({ error: { code, message } });
    };
    const app = Fastify({
      bodyLimit: BODY_LIMIT_BYTES,
      forceCloseConnections: true,
      // A number is no text: what a client got wrong it should learn.
      ajv: { customOptions: { coerceTypes: false } },
      frameworkErrors: (error, _request, reply) => answerError(error, reply),
    });
    resources.add('HTTP server', () => app.close());
    app.setErrorHandler((error: FastifyError | FeedctlError, _request, reply) => answerError(error, reply));
    takeEmptyBodies(app);
    if (metrics) addMetrics(app, metrics);
    const hub = await openHub({ ...context, gatewayId: randomUUID() });
    resources.add('live queue', () => hub.stop(deadline));
    let isLive = () => false;
    const checkReady = async () => {
      if (!isLive()) throw new FeedctlError('NOT_LIVE', 'live updates are lost, or being caught up with');
      await db.ping();
    };
    addRoutes(app, { ...context, checkToken, checkReady });
    const sockets = serveSockets(app.server, { hub, checkToken, log, metrics }, options.sockets);
    resources.add('sockets', () => sockets.stop());
    let url: string;
    try {
      url = await app.listen({ host: options.host, port: options.port });
    } catch (error) {
      throw listenError(error, options);
    }
    const membership = await joinCluster({ db, log, url }, hub);
    resources.add('registration', () => membership.stop());
    isLive = () => membership.live;
    const confirming = await confirmUnfollows({ db, log }, hub);
    resources.add('unfollows', () => confirming.close());
    const unwatch = metrics && [
      metrics.watch('feedctl_gateway_sockets', () => hub.sockets),
      metrics.watch('feedctl_gateway_pushed_total', () => hub.pushed),
      metrics.watch('feedctl_gateway_live', () => (membership.live ? 1 : 0)),
    ];
    resources.add('metrics', () => {
      for (const stop of unwatch ?? []) stop();
    });
    resources.add('open sockets', async () => {
      isLive = () => false;
      await sockets.drain(deadline * DRAIN_SHARE);
    });
    return {
      get id() {
        return hub.gatewayId;
      },
      url,
      get sockets() {
        return hub.sockets;
      },
      get pushed() {
        return hub.pushed;
      },
      connections: (userId) => hub.connections(userId),
      async stop(deadlineMs) {
        deadline = deadlineMs;
        await resources.release(log);
      },
    };
  } catch (error) {
    await resources.release(log);
    throw error;
  }
}

/** `/metrics`, and how long each request took. Routes by their pattern: a path has as many values as there are ids. */
function addMetrics(app: FastifyInstance, metrics: Metrics): void {
  app.addHook('onResponse', (request, reply, done) => {
    const labels = {
      method: request.method,
      route: request.routeOptions.url ?? 'none',
      status: String(reply.statusCode),
    };
    metrics.observe('feedctl_gateway_request_seconds', reply.elapsedTime / 1000, labels);
    done();
  });
  app.get('/metrics', async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
}

/** Clients that always send the header of JSON send it with an empty body too, where a route takes none. */
function takeEmptyBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else parse(request, body as string, done);
  });
}
