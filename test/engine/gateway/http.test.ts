import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { connect } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { resolveGatewayUrl } from '../../../src/engine/cluster/cluster.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { Database } from '../../../src/engine/database/database.ts';
import { CHECK_TIMEOUT_MS } from '../../../src/engine/fleet/readiness.ts';
import { liveQueue } from '../../../src/engine/live/notifier.ts';
import { registerGateway } from '../../../src/engine/live/presence.ts';
import { encodeLive } from '../../../src/engine/model/messages.ts';
import type { TestCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { testClient, UNLIMITED } from '../../support/gateways.ts';
import { send } from './rawRequest.ts';
import { served } from './served.ts';

const JSON_TYPE = { 'content-type': 'application/json' };

async function servedTo(): Promise<{ cluster: TestCluster; url: string; headers: Record<string, string> }> {
  const { cluster, url, tokenOf } = await served();
  const [user] = (await cluster.users(2)) as [number, number];
  return { cluster, url, headers: { authorization: `Bearer ${await tokenOf(user)}` } };
}

test('what is no text, no number and no URL is refused, always in the same shape', async () => {
  const { url, headers } = await servedTo();
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
  const { url, headers } = await servedTo();
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

test('who would rather speak another protocol is answered in this one', async () => {
  const { url, headers } = await servedTo();
  const offer = {
    connection: 'Upgrade, HTTP2-Settings',
    upgrade: 'h2c',
    'http2-settings': 'AAMAAABkAAQAoAAAAAIAAAAA',
  };
  const body = '{"text":"a post"}';
  const status = await new Promise((resolve, reject) => {
    const all = { ...headers, ...JSON_TYPE, ...offer, 'content-length': body.length };
    request(`${url}/post/create`, { method: 'POST', headers: all }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    })
      .on('error', reject)
      .end(body);
  });
  expect(status).toBe(201);
});

test('an id that is too long, a path that is none and an unknown expectation are requests that count', async () => {
  const { url } = await served({ limits: { ...UNLIMITED, ipUnauthenticated: 5 } });
  const get = (path: string, headers = {}) => send(url, { method: 'GET', path, headers });
  for (const id of [17, 101, 10_000].map((length) => '9'.repeat(length))) {
    const { status, text } = await get(`/user/get/${id}`);
    expect([status, JSON.parse(text).code], id).toEqual([400, 'USAGE']);
  }
  expect((await get('/%zz')).status).toBe(400);
  const expecting = { expect: 'something else' };
  expect((await get('/user/get/1', expecting)).status).toBe(404);
  for (const [path, headers] of [
    [`/user/get/${'9'.repeat(101)}`],
    ['/%zz'],
    ['/user/get/1', expecting],
  ] as const) {
    const answer = await get(path, headers);
    expect(answer).toMatchObject({ status: 429, headers: { 'content-type': 'application/problem+json' } });
  }
});

test('/metrics counts requests by route, and sockets', async () => {
  const { url } = await servedTo();
  for (const id of [1, 2, 3]) await fetch(`${url}/post/get/${id}`);
  const text = await (await fetch(`${url}/metrics`)).text();
  expect(text).toContain(
    'feedctl_gateway_request_seconds_count{method="GET",route="/post/get/:id",status="404"} 3',
  );
  expect(text).toContain('feedctl_gateway_sockets 0');
  // Probes would dominate the metrics of a quiet gateway.
  for (const path of ['/healthz', '/readyz', '/metrics']) await fetch(url + path);
  const routes = (await (await fetch(`${url}/metrics`)).text()).matchAll(
    /request_seconds_count\{.*route="(.*?)"/g,
  );
  expect([...routes].map(([, route]) => route)).toEqual(['/post/get/:id']);
});

test('/metrics tells how much of what workers addressed to the gateway found its user there', async () => {
  const { cluster, gateway, url } = await served();
  const [authorId, listener, offline] = (await cluster.users(3)) as [number, number, number];
  const client = await testClient(cluster, listener);
  await client.open(url);
  const records = [listener, offline, offline].map((userId) => ({ userId, authorId, postId: 1 }));
  const body = encodeLive({ importId: 0, committedAt: Date.now() }, records);
  await cluster.bus.publish([{ queue: liveQueue(gateway.id), body }]);
  const metrics = async () => (await fetch(`${url}/metrics`)).text();
  await expect.poll(metrics).toContain('feedctl_gateway_addressed_total{listening="yes"} 1');
  expect(await metrics()).toContain('feedctl_gateway_addressed_total{listening="no"} 2');
});

test('commands find the gateway that answers, not the one that was there first', async () => {
  const { cluster, url } = await servedTo();
  const { db } = cluster;
  const config = await loadConfig({ databaseUrl: cluster.url }, {});
  const dead = randomUUID();
  await registerGateway(db, { id: dead, url: 'http://127.0.0.1:1' });
  await db.query(`update gateways set started_at = now() - interval '1 hour' where id = '${dead}'`);
  expect(await resolveGatewayUrl({ ...cluster, config })).toBe(url);
  await db.query(`delete from gateways where id <> '${dead}'`);
  expect(await rejection(resolveGatewayUrl({ ...cluster, config }))).toMatchObject({
    code: 'GATEWAY_UNREACHABLE',
  });
});

test('a gateway is ready however many of its sessions are at work', async () => {
  const { cluster, url } = await served();
  const over = Promise.withResolvers<void>();
  let taken = 0;
  const busy = Array.from({ length: cluster.db.pool.options.max }, () =>
    cluster.db.withSession(() => {
      taken += 1;
      return over.promise;
    }),
  );
  await expect.poll(() => taken).toBe(busy.length);
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  over.resolve();
  await Promise.all(busy);
});

test('who asks /readyz while it is being found out shares the answer', async () => {
  const { url } = await served();
  const gate = Promise.withResolvers<void>();
  onTestFinished(() => void vi.restoreAllMocks());
  let checks = 0;
  const { withSession } = Database.prototype;
  vi.spyOn(Database.prototype, 'withSession').mockImplementation(async function (
    this: Database,
    work,
    options,
  ) {
    if (options?.deadlineMs === CHECK_TIMEOUT_MS) {
      checks += 1;
      await gate.promise;
    }
    return withSession.call(this, work, options) as never;
  });
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  onTestFinished(() => void socket.destroy());
  let answers = '';
  socket.setEncoding('utf8').on('data', (text) => {
    answers += text;
  });
  // One packet: the gateway has every request before it answers the first.
  socket.write(`GET /readyz HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`.repeat(20));
  await expect.poll(() => checks).toBeGreaterThan(0);
  gate.resolve();
  await expect.poll(() => answers.split('{"status":"ready"}').length - 1).toBe(20);
  expect(checks).toBe(1);
});
