import { randomUUID } from 'node:crypto';
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from 'fastify';
import type { FeedCache } from '../cache/cache.ts';
import { openHub } from '../live/hub.ts';
import { registerGateway, unregisterGateway } from '../live/presence.ts';
import { type ErrorCode, type FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import { Resources } from '../resources.ts';
import type { SocialContext } from '../social/context.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { listenError } from '../telemetry/metricsServer.ts';
import { openTokenCheck } from './auth.ts';
import { addRoutes } from './routes.ts';
import { serveSockets } from './sockets.ts';

const HEARTBEAT_MS = 5_000;
const BODY_LIMIT_BYTES = 64 * 1024;

/** Everything else is the server's fault, 500, or a dependency's, 503. */
const HTTP_STATUS: Partial<Record<ErrorCode, number>> = {
  CIRCUIT_OPEN: 503,
  CONFIG_INVALID: 400,
  DATABASE_UNREACHABLE: 503,
  INVALID_ID: 400,
  INVALID_TOKEN: 401,
  NODE_NUMBERS_EXHAUSTED: 503,
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

export interface Gateway {
  readonly id: string;
  /** Where it listens, e.g. http://127.0.0.1:8080. */
  readonly url: string;
  readonly sockets: number;
  readonly pushed: number;
  stop(deadlineMs: number): Promise<void>;
}

/** HTTP and WebSockets on one port. Throws PORT_TAKEN. */
export async function startGateway(
  context: SocialContext & { cache: FeedCache; metrics?: Metrics | undefined },
  options: { host: string; port: number },
): Promise<Gateway> {
  const { db, bus, log, metrics } = context;
  const id = randomUUID();
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
    addRoutes(app, { ...context, checkToken, checkReady: () => db.ping() });
    let url: string;
    try {
      url = await app.listen({ host: options.host, port: options.port });
    } catch (error) {
      throw listenError(error, options);
    }
    await registerGateway(db, { id, url });
    resources.add('registration', () => unregisterGateway(db, id));
    const hub = await openHub({ db, bus, log, metrics, gatewayId: id });
    resources.add('live queue', () => hub.stop(deadline));
    const unwatch = metrics?.watch('feedctl_gateway_sockets', () => hub.sockets);
    if (unwatch) resources.add('metrics', unwatch);
    resources.add('sockets', serveSockets(app.server, { hub, checkToken, log }));
    const heartbeat = setInterval(() => {
      db.query('update gateways set heartbeat_at = now() where id = $1', [id]).catch(() => {});
    }, HEARTBEAT_MS);
    resources.add('heartbeat', () => clearInterval(heartbeat));
    return {
      id,
      url,
      get sockets() {
        return hub.sockets;
      },
      get pushed() {
        return hub.pushed;
      },
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
