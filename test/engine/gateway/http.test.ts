import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { openMemoryCache } from '../../../src/engine/cache/memory/cache.ts';
import { resolveGatewayUrl } from '../../../src/engine/cluster.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { signToken } from '../../../src/engine/gateway/auth.ts';
import { startGateway } from '../../../src/engine/gateway/gateway.ts';
import { registerGateway } from '../../../src/engine/live/presence.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';

const JSON_TYPE = { 'content-type': 'application/json' };

async function served(): Promise<{ cluster: TestCluster; url: string; headers: Record<string, string> }> {
  const cluster = await testCluster();
  const cache = await openMemoryCache(cluster.db);
  onTestFinished(() => cache.close());
  const metrics = await openMetrics();
  const gateway = await startGateway({ ...cluster, cache, metrics }, { host: '127.0.0.1', port: 0 });
  onTestFinished(() => gateway.stop(1_000));
  const [user] = await cluster.users(2);
  return {
    cluster,
    url: gateway.url,
    headers: { authorization: `Bearer ${await signToken(cluster.db, user!)}` },
  };
}

test('what is no text, no number and no URL is refused, always in the same shape', async () => {
  const { url, headers } = await served();
  const ask = async (method: string, path: string, body?: string) => {
    const init = { method, headers: { ...headers, ...JSON_TYPE }, ...(body !== undefined && { body }) };
    const response = await fetch(url + path, init);
    const type = response.headers.get('content-type');
    return { status: response.status, type, body: await response.json() };
  };
  const problem = (status: number, title: string) => ({
    status,
    type: 'application/problem+json',
    body: { type: 'urn:feedctl:error:USAGE', title, status, detail: expect.any(String), code: 'USAGE' },
  });
  const refused = problem(400, 'Bad Request');
  for (const text of ['5', 'true', 'null', '["a"]', '{}'])
    expect(await ask('POST', '/post/create', `{"text":${text}}`), text).toEqual(refused);
  for (const body of ['', '{"text":', '"text"', '[]'])
    expect(await ask('POST', '/post/create', body), body).toEqual(refused);
  expect(await ask('PUT', '/post/update', '{"id":1,"text":"x"}')).toEqual(refused);
  expect(await ask('PUT', '/post/update', '{"id":"1","text":"x","version":"2"}')).toEqual(refused);
  for (const limit of ['0', '1001', 'x', '-1', '1.5', ''])
    expect(await ask('GET', `/post/feed?limit=${limit}`), limit).toEqual(refused);
  expect(await ask('GET', '/post/feed?limit=1000')).toMatchObject({ status: 200, body: [] });
  expect(await ask('GET', '/post/feed')).toMatchObject({ status: 200, body: [] });
  expect(await ask('GET', '/%zz')).toEqual(refused);
  expect(await ask('GET', '/nothing')).toEqual(problem(404, 'Not Found'));
});

test('a request without a body may say that it is JSON', async () => {
  const { url, headers } = await served();
  const { hostname, port } = new URL(url);
  const other = await (await fetch(`${url}/user/get/1`)).json();
  expect(other).toMatchObject({ code: 'USER_NOT_FOUND' });
  const status = await new Promise((resolve, reject) => {
    const path = '/friend/set/1';
    request({ hostname, port, method: 'PUT', path, headers: { ...headers, ...JSON_TYPE } }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    })
      .on('error', reject)
      .end();
  });
  expect(status, 'the route was reached: it knows no user 1').toBe(404);
});

test('/metrics counts requests by route, and sockets', async () => {
  const { url } = await served();
  for (const id of [1, 2, 3]) await fetch(`${url}/post/get/${id}`);
  const text = await (await fetch(`${url}/metrics`)).text();
  expect(text).toContain(
    'feedctl_gateway_request_seconds_count{method="GET",route="/post/get/:id",status="404"} 3',
  );
  expect(text).toContain('feedctl_gateway_sockets 0');
});

test('commands find the gateway that answers, not the one that was there first', async () => {
  const { cluster, url } = await served();
  const { db } = cluster;
  const config = await loadConfig({ databaseUrl: cluster.url }, {});
  const dead = randomUUID();
  await registerGateway(db, { id: dead, url: 'http://127.0.0.1:1' });
  await db.query(`update gateways set started_at = now() - interval '1 hour' where id = '${dead}'`);
  expect(await resolveGatewayUrl(config, db)).toBe(url);
  await db.query(`delete from gateways where id <> '${dead}'`);
  expect(await rejection(resolveGatewayUrl(config, db))).toMatchObject({ code: 'GATEWAY_UNREACHABLE' });
});
