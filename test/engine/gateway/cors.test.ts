import { request } from 'node:http';
import { expect, test } from 'vitest';
import { UNLIMITED } from '../../support/gateways.ts';
import { served } from './served.ts';

const APP = 'https://app.example';
const OTHERS = ['https://evil.example', 'https://app.example.evil.example', 'http://app.example', 'null'];

/** Sends a request with headers that `fetch` does not let a caller set. */
function send(url: string, method: string, headers: Record<string, string>) {
  return new Promise<{ status: number; headers: Record<string, string> }>((resolve, reject) => {
    request(url, { method, headers }, (answer) => {
      answer.resume();
      resolve({ status: answer.statusCode!, headers: answer.headers as Record<string, string> });
    })
      .on('error', reject)
      .end();
  });
}

const corsHeaders = (headers: Record<string, string>) =>
  Object.keys(headers).filter((name) => name.startsWith('access-control-'));

const preflight = (origin: string, method: string) => ({
  origin,
  'access-control-request-method': method,
  'access-control-request-headers': 'authorization, content-type, idempotency-key',
});

test('a page of a named origin may use every route of the API, and may read every answer', async () => {
  const { cluster, ask, url, tokenOf } = await served({
    limits: UNLIMITED,
    sockets: { origins: [APP, 'https://second.example'] },
  });
  const [user] = (await cluster.users(1)) as [number];
  const authorization = `Bearer ${await tokenOf(user)}`;
  const { paths } = (await ask('GET', '/openapi.json')).body;
  const monitoring = ['/healthz', '/readyz', '/metrics', '/cluster/snapshot'];
  for (const [pattern, operations] of Object.entries<object>(paths)) {
    if (monitoring.includes(pattern)) continue;
    const path = pattern.replace(/\{.*?\}/g, '1');
    for (const method of Object.keys(operations).map((one) => one.toUpperCase())) {
      const before = await send(url + path, 'OPTIONS', preflight(APP, method));
      expect(before, path).toMatchObject({ status: 204, headers: { 'access-control-allow-origin': APP } });
      expect(before.headers['access-control-allow-methods']!.split(', ')).toContain(method);
      for (const name of ['authorization', 'content-type', 'idempotency-key'])
        expect(before.headers['access-control-allow-headers']!.split(', ')).toContain(name);
      expect(before.headers.vary).toBe('origin');
      const { headers } = await send(url + path, method, { origin: APP, authorization });
      expect(headers['access-control-allow-origin'], `${method} ${path}`).toBe(APP);
      expect(headers).not.toHaveProperty('access-control-allow-credentials');
      expect(headers['access-control-expose-headers']).toContain('link');
    }
  }
  for (const [method, path, status] of [
    ['GET', '/post/feed', 401],
    ['GET', '/nothing', 404],
    ['DELETE', '/login', 405],
  ] as const) {
    const refused = await send(url + path, method, { origin: APP });
    expect([refused.status, refused.headers['access-control-allow-origin']], path).toEqual([status, APP]);
  }
});

test('no other origin, no operator’s route and no gateway without named origins allows a page', async () => {
  const named = await served({ limits: UNLIMITED, sockets: { origins: [APP] } });
  const unnamed = await served({ limits: UNLIMITED }, named.cluster);
  const [user] = (await named.cluster.users(1)) as [number];
  const authorization = `Bearer ${await named.tokenOf(user)}`;
  const none = async (url: string, path: string, origin: string) => {
    const before = await send(url + path, 'OPTIONS', preflight(origin, 'GET'));
    expect(corsHeaders(before.headers), `${origin} ${path}`).toEqual([]);
    expect(before.status).toBeGreaterThanOrEqual(400);
    const { headers } = await send(url + path, 'GET', { origin, authorization });
    expect(corsHeaders(headers), `${origin} ${path}`).toEqual([]);
  };
  for (const origin of OTHERS) await none(named.url, '/post/feed', origin);
  for (const origin of [APP, ...OTHERS]) await none(unnamed.url, '/post/feed', origin);
  for (const path of ['/admin/connections', '/metrics', '/readyz', '/healthz'])
    expect(corsHeaders((await send(named.url + path, 'GET', { origin: APP })).headers), path).toEqual([]);
  for (const path of ['/admin/drain', '/admin/connections', '/metrics', '/nothing'])
    await expect(send(named.url + path, 'OPTIONS', preflight(APP, 'POST')), path).resolves.toMatchObject({
      status: path === '/nothing' ? 404 : 405,
    });
  // A cache must not give a page the answer for another origin.
  expect((await send(`${named.url}/post/get/1`, 'GET', {})).headers.vary).toBe('origin');
});

test('preflights are no requests of the page’s budget', async () => {
  const limits = { ...UNLIMITED, ipUnauthenticated: 2, ip: 2 };
  const { url } = await served({ limits, sockets: { origins: [APP] } });
  for (let i = 0; i < 10; i += 1)
    expect((await send(`${url}/login`, 'OPTIONS', preflight(APP, 'POST'))).status).toBe(204);
  expect((await send(`${url}/post/get/1`, 'GET', { origin: APP })).status).toBe(404);
});
