import { createServer } from 'node:http';
import { FeedctlError } from '../model/errors.ts';
import type { Metrics } from './metrics.ts';

export interface MetricsServer {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * `/metrics`, `/healthz` and `/readyz` of a role that has no HTTP server of its own. `checkReady` throws where the
 * role should get no work. Throws PORT_TAKEN or CONFIG_INVALID.
 */
export async function startMetricsServer(
  metrics: Metrics,
  checkReady: () => Promise<void>,
  options: { host: string; port: number },
): Promise<MetricsServer> {
  const server = createServer(async (request, response) => {
    const answer = (status: number, body: object) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    try {
      const path = request.url?.split('?')[0];
      if (request.method !== 'GET' && request.method !== 'HEAD') answer(405, { error: { code: 'USAGE' } });
      else if (path === '/healthz') answer(200, { status: 'ok' });
      else if (path === '/readyz') await checkReady().then(() => answer(200, { status: 'ready' }));
      else if (path === '/metrics') {
        const text = await metrics.text();
        response.writeHead(200, { 'content-type': metrics.contentType }).end(text);
      } else answer(404, { error: { code: 'USAGE', message: 'there are /metrics, /healthz and /readyz' } });
    } catch (error) {
      const code = error instanceof FeedctlError ? error.code : 'INTERNAL';
      answer(503, { error: { code, message: 'not ready' } });
    }
  });
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

function listening(
  server: ReturnType<typeof createServer>,
  options: { host: string; port: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, options)));
    server.listen(options.port, options.host, resolve);
  });
}

/** Says what it means to the user that a port cannot be listened on. */
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
