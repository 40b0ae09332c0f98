import { createServer, type RequestListener, type Server } from 'node:http';
import { FeedctlError } from '../model/errors.ts';
import type { Metrics } from './metrics.ts';

export interface MetricsServer {
  readonly url: string;
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/**
 * Serves `/metrics`, `/healthz` and `/readyz` of a role without an HTTP server. `checkReady` throws if
 * the role must get no work. Throws PORT_TAKEN or CONFIG_INVALID.
 */
export async function startMetricsServer(
  metrics: Metrics,
  checkReady: () => Promise<void>,
  options: { host: string; port: number },
): Promise<MetricsServer> {
  const server = createServer(answering(metrics, checkReady));
  await listening(server, options);
  const { port } = server.address() as { port: number };
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return {
    url: `http://${host}:${port}`,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

function answering(metrics: Metrics, checkReady: () => Promise<void>): RequestListener {
  const routes: Readonly<Record<string, () => Promise<Answer>>> = {
    '/healthz': async () => json(200, { status: 'ok' }),
    '/readyz': async () => {
      await checkReady();
      return json(200, { status: 'ready' });
    },
    '/metrics': async () => ({ status: 200, type: metrics.contentType, body: await metrics.text() }),
  };
  return async ({ method, url }, response) => {
    const route = routes[url?.split('?')[0] ?? ''] ?? unknownPath;
    const answer = method === 'GET' || method === 'HEAD' ? route : wrongMethod;
    const { status, type, body } = await answer().catch(notReady);
    response.writeHead(status, { 'content-type': type }).end(body);
  };
}

const json = (status: number, body: object): Answer => ({
  status,
  type: 'application/json',
  body: JSON.stringify(body),
});

const wrongMethod = async () => json(405, { error: { code: 'USAGE' } });
const unknownPath = async () =>
  json(404, { error: { code: 'USAGE', message: 'the paths are /metrics, /healthz and /readyz' } });

function notReady(error: unknown): Answer {
  const code = error instanceof FeedctlError ? error.code : 'INTERNAL';
  return json(503, { error: { code, message: 'not ready' } });
}

function listening(server: Server, options: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, options)));
    server.listen(options.port, options.host, resolve);
  });
}

/** Returns the error for the user if a server cannot listen on its port. */
export function listenError(error: unknown, { host, port }: { host: string; port: number }): unknown {
  const { code } = error as { code?: string };
  const cause = { cause: error };
  if (code === 'EADDRINUSE')
    return new FeedctlError('PORT_TAKEN', `port ${port} of ${host} is in use`, cause);
  if (code === 'EACCES')
    return new FeedctlError('PORT_TAKEN', `port ${port} is not open to this user`, cause);
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return new FeedctlError('CONFIG_INVALID', `${host} is no address of this machine`, cause);
  return error;
}
