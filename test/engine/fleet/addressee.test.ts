import { randomUUID } from 'node:crypto';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { resolveGatewayUrl } from '../../../src/engine/cluster/cluster.ts';
import type { Config } from '../../../src/engine/config/config.ts';
import { gatewayStates, sharedUrls } from '../../../src/engine/fleet/gateways.ts';
import { listConnections } from '../../../src/engine/gateway/operator/connections.ts';
import { drainGateway, planDrain } from '../../../src/engine/gateway/operator/drain.ts';
import { signOperatorToken } from '../../../src/engine/gateway/tokens.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { cachedGateway } from '../../support/gateways.ts';
import { served } from '../gateway/served.ts';

const signal = new AbortController().signal;
const CODE = expect.objectContaining({ code: 'GATEWAY_OTHER' });

/** Registers the gateway at another URL, as one does whose own leads elsewhere from here. */
const register = (cluster: TestCluster, id: string, url: string) =>
  cluster.db.query('update gateways set url = $2 where id = $1', [id, url]);

/** A gateway that can be drained. */
async function drainable(cluster: TestCluster) {
  let drained = false;
  const onDrain = () => {
    drained = true;
  };
  const { gateway } = await cachedGateway(cluster, { onDrain });
  return { id: gateway.id, url: gateway.url, drained: () => drained };
}

/** Two gateways: `b` is registered at the URL of `a`. */
async function confused() {
  const cluster = await testCluster();
  const [a, b] = [await drainable(cluster), await drainable(cluster)];
  await register(cluster, b.id, a.url);
  return { cluster, a, b };
}

/** The gateway as an older version is: it reads no header, and answers with none. Returns its URL. */
async function olderVersion(url: string): Promise<string> {
  const server = createServer((incoming, answer) => {
    const { 'feedctl-gateway': _, ...headers } = incoming.headers;
    const outgoing = request(
      new URL(incoming.url!, url),
      { method: incoming.method, headers },
      (response) => {
        answer.writeHead(response.statusCode!, response.headers);
        response.pipe(answer);
      },
    );
    incoming.pipe(outgoing);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('a gateway refuses requests that mean another one, whatever their path, and does nothing', async () => {
  let drained = false;
  const onDrain = () => {
    drained = true;
  };
  const { cluster, gateway, ask, tokenOf } = await served({ onDrain });
  const [user] = (await cluster.users(1)) as [number];
  const token = await tokenOf(user);
  const operator = await signOperatorToken(cluster.db);
  const headers = { 'feedctl-gateway': randomUUID() };
  for (const [method, path, request] of [
    ['GET', '/readyz', {}],
    ['GET', '/healthz', {}],
    ['GET', '/metrics', {}],
    ['GET', '/no/such/path', {}],
    ['POST', '/post/create', { token, body: { text: 'a post' } }],
    ['POST', '/admin/drain', { token: operator }],
    ['GET', '/admin/connections', { token: operator }],
  ] as const) {
    const answer = await ask(method, path, { ...request, headers });
    expect(answer.status, path).toBe(421);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(answer.headers.get('feedctl-gateway')).toBe(gateway.id);
    expect(answer.body).toMatchObject({
      type: 'urn:feedctl:error:GATEWAY_OTHER',
      title: 'Misdirected Request',
      code: 'GATEWAY_OTHER',
    });
  }
  expect(drained).toBe(false);
  expect((await cluster.db.query('select from posts')).rowCount).toBe(0);

  const own = await ask('GET', '/healthz', { headers: { 'feedctl-gateway': gateway.id } });
  expect([own.status, own.headers.get('feedctl-gateway')]).toEqual([200, gateway.id]);
  const client = await ask('POST', '/post/create', { token, body: { text: 'a post' } });
  expect([client.status, client.headers.get('feedctl-gateway')]).toEqual([201, null]);
});

test('a gateway that was killed and started again at its URL shares it with no other', async () => {
  const cluster = await testCluster();
  const { id, url } = await drainable(cluster);
  const killed = randomUUID();
  await cluster.db.query(
    `insert into gateways (id, url, started_at, heartbeat_at)
     select $1, url, started_at - interval '9 s', started_at - interval '1 s' from gateways`,
    [killed],
  );
  const states = await gatewayStates(cluster.db);
  expect(states).toMatchObject([
    { id: killed, ready: false, reason: `gateway ${id} answers at ${url}, not gateway ${killed}` },
    { id, ready: true, reason: null },
  ]);
  expect(sharedUrls(states)).toEqual([]);
});

test('a gateway whose URL leads to another one is not ready, and nothing of the other is taken for its own', async () => {
  const { cluster, a, b } = await confused();
  const states = await gatewayStates(cluster.db);
  expect(states).toMatchObject([
    { id: a.id, ready: true, reason: null },
    { id: b.id, ready: false, reason: `gateway ${a.id} answers at ${a.url}, not gateway ${b.id}` },
  ]);
  expect(sharedUrls(states)).toEqual([{ url: a.url, gatewayIds: [a.id, b.id] }]);
  const { unreachable } = await listConnections(cluster.db, { limit: 0 });
  expect(unreachable).toMatchObject([{ gatewayId: b.id, reason: expect.stringContaining(a.id) }]);
  await expect(planDrain(cluster.db, b.id)).rejects.toEqual(CODE);
  await expect(drainGateway(cluster.db, { ...b, url: a.url }, { timeoutMs: 1_000, signal })).rejects.toEqual(
    CODE,
  );
  expect(a.drained()).toBe(false);

  await cluster.db.query('delete from gateways where id = $1', [a.id]);
  await expect(listConnections(cluster.db, { limit: 0 })).rejects.toEqual(CODE);
  await expect(resolveGatewayUrl({ ...cluster, config: {} as Config })).rejects.toMatchObject({
    code: 'GATEWAY_UNREACHABLE',
    message: expect.stringContaining(`gateway ${a.id} answers`),
  });
});

test('a gateway of an older version answers new commands, and is not drained for another one', async () => {
  const { cluster, a, b } = await confused();
  const old = await olderVersion(a.url);
  for (const { id } of [a, b]) await register(cluster, id, old);
  expect(await gatewayStates(cluster.db)).toMatchObject([{ ready: true }, { ready: true }]);
  const { unreachable } = await listConnections(cluster.db, { limit: 0 });
  expect(unreachable).toMatchObject([{ gatewayId: b.id, reason: expect.stringContaining(a.id) }]);
  await expect(planDrain(cluster.db, b.id)).rejects.toEqual(CODE);
  await expect(drainGateway(cluster.db, { ...b, url: old }, { timeoutMs: 1_000, signal })).rejects.toEqual(
    CODE,
  );
  expect(a.drained()).toBe(false);
  // A drained gateway leaves; the one of this test only notes that it was asked to.
  await expect(drainGateway(cluster.db, { ...a, url: old }, { timeoutMs: 1, signal })).rejects.toMatchObject({
    code: 'STOP_TIMEOUT',
  });
  expect(a.drained()).toBe(true);
});

test('a gateway URL that leads to another cluster is refused', async () => {
  const [here, there] = [await testCluster(), await testCluster()];
  const { gateway } = await cachedGateway(there, {});
  const config = { gatewayUrl: gateway.url } as Config;
  await expect(resolveGatewayUrl({ ...here, config })).rejects.toEqual(CODE);
  expect(await resolveGatewayUrl({ ...there, config })).toBe(gateway.url);
  // A request of a user names no cluster.
  expect((await fetch(`${gateway.url}/healthz`)).status).toBe(200);
});
