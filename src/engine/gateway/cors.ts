import type { KnownPaths } from './knownPaths.ts';
import type { App } from './routes/context.ts';

/** Headers that a page may send, and those of an answer that it may read. */
const ALLOWED = 'authorization, content-type, idempotency-key, traceparent';
const EXPOSED = 'allow, cache-status, link, retry-after, www-authenticate';
/** Time for which a browser may keep the answer to a preflight. */
const MAX_AGE_SECONDS = 600;

/**
 * Lets pages of these origins use the API, by their tokens: without `allow-credentials` a browser
 * sends no cookies. Routes for monitoring and for operators allow no page. Preflights are answered
 * before limits: they cost no more than a refusal.
 */
export function addCors(app: App, paths: KnownPaths, origins: readonly string[]): void {
  if (origins.length === 0) return;
  app.addHook('onRequest', async (request, reply) => {
    const { config } = request.routeOptions;
    if (config?.unlimited || config?.operator) return;
    void reply.header('vary', 'origin');
    const { origin } = request.headers;
    if (origin === undefined || !origins.includes(origin)) return;
    const allowed = { 'access-control-allow-origin': origin };
    if (request.method !== 'OPTIONS' || !request.headers['access-control-request-method']) {
      void reply.headers({ ...allowed, 'access-control-expose-headers': EXPOSED });
      return;
    }
    const methods = paths.methodsOf(request.url, { apiOnly: true });
    if (methods.length === 0) return;
    return reply
      .code(204)
      .headers({
        ...allowed,
        'access-control-allow-methods': methods.join(', '),
        'access-control-allow-headers': ALLOWED,
        'access-control-max-age': String(MAX_AGE_SECONDS),
      })
      .send();
  });
}
