import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { json, start, waitUntil } from '../support/cli.ts';
import { FOUNDATIONS, spawnedCluster } from '../support/spawnedCluster.ts';

/** A proxy that serves the gateway below `/feeds` and answers 404 elsewhere. Returns its URL. */
async function behindPath(gatewayUrl: string): Promise<string> {
  const { hostname, port } = new URL(gatewayUrl);
  const target = (path = '') => (path.startsWith('/feeds/') ? path.slice('/feeds'.length) : undefined);
  const proxy = createServer((incoming, answer) => {
    const path = target(incoming.url);
    if (!path) return void answer.writeHead(404).end('{}');
    const { method, headers } = incoming;
    const outgoing = request({ hostname, port, path, method, headers }, (response) => {
      answer.writeHead(response.statusCode!, response.headers);
      response.pipe(answer);
    });
    incoming.pipe(outgoing);
  });
  proxy.on('upgrade', (incoming, client) => {
    const path = target(incoming.url);
    if (!path) return client.end('HTTP/1.1 404 Not Found\r\n\r\n');
    const outgoing = request({ hostname, port, path, headers: incoming.headers });
    outgoing.on('upgrade', (response, server, first) => {
      const head = Object.entries(response.headers).map(([name, value]) => `${name}: ${value}`);
      client.write(`HTTP/1.1 101 Switching Protocols\r\n${head.join('\r\n')}\r\n\r\n`);
      // The first frame may have come in one piece with the answer.
      client.write(first);
      server.on('error', () => client.destroy()).pipe(client);
      client.on('error', () => server.destroy()).pipe(server);
    });
    outgoing.end();
  });
  await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done));
  onTestFinished(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/feeds`;
}

test('a gateway below a path is watched and probed there', { timeout: 180_000 }, async () => {
  const cluster = await spawnedCluster(FOUNDATIONS[0]);
  for (const id of ['1', '2']) await cluster.json('user', 'create', '--id', id);
  await cluster.json('follow', 'create', '2', '1');
  await cluster.worker();
  const url = await behindPath((await cluster.gateway()).gatewayUrl);
  for (const given of [url, `${url}/`]) {
    const watch = start(['feed', 'watch', '2', '--count', '1', '--json', '--gateway-url', given], cluster.at);
    await waitUntil(() => watch.stderr().includes('Watching') || watch.child.exitCode !== null);
    await cluster.json('post', 'create', '1', 'below a path');
    expect(await watch.ended).toMatchObject({ status: 0, stdout: expect.stringContaining('below a path') });
  }
  const at = { env: { ...cluster.at.env, FEEDCTL_GATEWAY_URL: url } };
  expect(await json(['probe'], at)).toMatchObject({ gatewayUrl: url });
});
