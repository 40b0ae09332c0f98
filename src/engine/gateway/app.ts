import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import ajvCompiler from '@fastify/ajv-compiler';
import swagger from '@fastify/swagger';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, { type ConnectionError, type FastifyReply, type FastifyRequest } from 'fastify';
import { answeredBy, checkRequest } from '../fleet/addressee.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { bearerOf } from './bearer.ts';
import { addCors } from './cors.ts';
import { invalidRequest } from './invalidRequest.ts';
import { KnownPaths } from './knownPaths.ts';
import { PROBLEM_TYPE, problem, problemOf } from './problems.ts';
import type { App, RouteContext } from './routes/context.ts';
import { addRoutes } from './routes/index.ts';
import { describeSearch, Problem, PrometheusText } from './routes/schemas.ts';

/** Maximum size of a body: a text of 5,000 escaped characters needs about 30 KB. */
const BODY_LIMIT_BYTES = 64 * 1024;
/**
 * Milliseconds. Clients that send a header a byte at a time are cut off, within two seconds of the
 * timeout.
 */
const HEADER_TIMEOUTS = { headersTimeout: 10_000, connectionsCheckingInterval: 2_000 } as const;
const REQUEST_TIMEOUT_MS = 20_000;
const MAX_HEADER_BYTES = 16 * 1024;

/** Answers a request that offers an upgrade to HTTP/2, as Java's client does, in HTTP/1.1. */
const shouldUpgradeCallback = ({ headers }: IncomingMessage) =>
  headers.upgrade?.toLowerCase() === 'websocket';

export interface AppContext extends RouteContext {
  /** Returns the address of a client, as limits count it. */
  readonly addressOf: (request: IncomingMessage) => string;
  /** Origins of pages that may use the API; empty: none but the gateway's own page. */
  readonly origins: readonly string[];
  readonly metrics?: Metrics | undefined;
}

/** Opens the HTTP server with all routes. The caller makes it listen. */
export async function openApp(context: AppContext): Promise<App> {
  const { log, metrics, tracing, limiter, addressOf } = context;
  const answerError = (error: unknown, reply: FastifyReply) => {
    const { problem, headers } = problemOf(error, log);
    void reply.code(problem.status).headers(headers).serializer(JSON.stringify).send(problem);
  };
  const app: App = Fastify({
    bodyLimit: BODY_LIMIT_BYTES,
    // Requests in flight may end when the app closes; the caller limits that time.
    forceCloseConnections: 'idle',
    // Without a value Fastify disables this timeout of Node.
    requestTimeout: REQUEST_TIMEOUT_MS,
    http: { ...HEADER_TIMEOUTS, maxHeaderSize: MAX_HEADER_BYTES, shouldUpgradeCallback },
    // The schemas bound each parameter; the router would refuse a long one with 414 and no limit.
    routerOptions: { maxParamLength: MAX_HEADER_BYTES },
    // A path that cannot be decoded reaches no hook, and counts all the same.
    frameworkErrors: (error, { raw }, reply) => {
      const caller = { ip: addressOf(raw), userId: undefined, writes: false };
      limiter.admit(caller).then(
        () => answerError(error, reply),
        (refusal) => answerError(refusal, reply),
      );
    },
    clientErrorHandler: refuseConnection,
    schemaErrorFormatter: invalidRequest,
  }).withTypeProvider<TypeBoxTypeProvider>();
  app.setErrorHandler((error, _request, reply) => answerError(error, reply));
  ignoreExpectations(app);
  const paths = new KnownPaths();
  paths.watch(app);
  validate(app);
  takeEmptyBodies(app);
  app.addSchema(Problem);
  await app.register(swagger, {
    refResolver: { buildLocalReference: (schema) => String(schema.$id) },
    transformObject: describeSearch,
    openapi: {
      openapi: '3.1.0',
      info: { title: 'feedctl gateway', version: '1', license: { name: 'MIT', identifier: 'MIT' } },
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
          operator: {
            type: 'http',
            scheme: 'bearer',
            bearerFormat: 'JWT',
            description: 'a token of `feedctl gateway token`',
          },
        },
      },
    },
  });
  refuseMisdirected(app, context);
  if (tracing) traceRequests(app, tracing);
  addCors(app, paths, context.origins);
  admitRequests(app, context);
  if (metrics) addMetrics(app, metrics);
  addRoutes(app, context, paths);
  return app;
}

/**
 * Handles a request with an unknown `Expect` header like any other. Node would answer 417 without a
 * body, before limits.
 */
function ignoreExpectations({ server }: App): void {
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));
}

/** Converts types in query strings, where numbers are text. In a body a wrong type is an error. */
function validate(app: App): void {
  const [query, rest] = [true, false].map((coerceTypes) =>
    ajvCompiler()({}, { customOptions: { coerceTypes, removeAdditional: false, verbose: true } }),
  );
  app.setValidatorCompiler((route) => (route.httpPart === 'querystring' ? query! : rest!)(route));
}

/** Refuses a request of another process that means another gateway, before anything is done for it. */
function refuseMisdirected(app: App, { admin, identity }: AppContext): void {
  app.addHook('onRequest', async ({ headers }, reply) => {
    const self = { cluster: identity?.cluster, gateway: admin.id };
    void reply.headers(answeredBy(self, headers));
    checkRequest(self, headers);
  });
}

/** Authenticates a request and applies the limits, before its body is read. */
function admitRequests(app: App, { tokens, limiter, addressOf }: AppContext): void {
  app.decorateRequest('userId', 0);
  const admitOperator = async (request: FastifyRequest) => {
    let refusal: unknown;
    await tokens.checkViewer(bearerOf(request)).catch((error) => {
      refusal = error;
    });
    const caller = { ip: addressOf(request.raw), userId: undefined, writes: false };
    await limiter.admit({ ...caller, operator: refusal === undefined });
    if (refusal !== undefined) throw refusal;
  };
  app.addHook('onRequest', async (request) => {
    const { config, schema } = request.routeOptions;
    if (config?.unlimited) return;
    if (config?.operator) return admitOperator(request);
    let refusal: unknown;
    const userId = await tokens.check(bearerOf(request)).catch((error) => {
      refusal = error;
      return undefined;
    });
    await limiter.admit({ ip: addressOf(request.raw), userId, writes: config?.writes === true });
    if (userId !== undefined) request.userId = userId;
    else if (schema?.security) throw refusal;
  });
}

/**
 * Traces every request except monitoring. The caller's `traceparent` is a link of the span, unless
 * callers are trusted: as a parent it would decide, by its flag or its trace id, what is sampled.
 */
function traceRequests(app: App, tracing: Tracing): void {
  app.decorateRequest('span', undefined);
  app.addHook('onRequest', async (request) => {
    const { config, url: route } = request.routeOptions;
    if (config?.unlimited) return;
    const caller = request.headers.traceparent;
    request.span = tracing.begin(`${request.method} ${route ?? 'none'}`, 'server', {
      ...(typeof caller === 'string' && (tracing.trustsCallers ? { parent: caller } : { links: [caller] })),
      attributes: { 'http.request.method': request.method, ...(route && { 'http.route': route }) },
    });
  });
  app.addHook('onResponse', async (request, reply) => {
    const { statusCode } = reply;
    request.span?.set({ 'http.response.status_code': statusCode });
    request.span?.end(statusCode >= 500 ? new Error(`the response was ${statusCode}`) : undefined);
  });
}

/**
 * Adds `/metrics`, and measures every request except monitoring: probes, which get 503 while a
 * gateway starts, would dominate a quiet gateway. The label is the pattern of the route: paths
 * contain ids.
 */
function addMetrics(app: App, metrics: Metrics): void {
  app.addHook('onResponse', (request, reply, done) => {
    const { config, url: route = 'none' } = request.routeOptions;
    if (!config?.unlimited) {
      const labels = { method: request.method, route, status: String(reply.statusCode) };
      metrics.observe('feedctl_gateway_request_seconds', reply.elapsedTime / 1000, labels);
    }
    done();
  });
  app.get(
    '/metrics',
    {
      config: { unlimited: true },
      schema: { summary: 'In the text format of Prometheus', response: { 200: PrometheusText } },
    },
    async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()),
  );
}

/**
 * Accepts an empty body with the content type of JSON, which some clients send with every request.
 */
function takeEmptyBodies(app: App): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else parse(request, body as string, done);
  });
}

/** Status for errors of Node on a connection without a valid request. */
const CLIENT_ERRORS: Record<string, number> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 };

function refuseConnection(error: ConnectionError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = CLIENT_ERRORS[error.code] ?? 400;
  const details = problem(status, 'USAGE', 'the request is malformed, too large or too slow');
  const body = JSON.stringify(details);
  socket.end(
    `HTTP/1.1 ${status} ${details.title}\r\nContent-Type: ${PROBLEM_TYPE}\r\n` +
      `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
