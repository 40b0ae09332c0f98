import { once } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import { REQUEST_LIMITS } from '../../../src/engine/resilience/limits.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { startRedis } from '../../support/redis.ts';
import { findServer } from '../../support/server.ts';
import { type Answer, type Served, served } from './served.ts';

/** Returns how many of `count` requests were admitted. Refusals have a Retry-After. */
async function admitted(count: number, request: () => Promise<Answer>): Promise<number> {
  const answers = await Promise.all(Array.from({ length: count }, request));
  for (const { status, headers, body } of answers) {
    expect([200, 201, 401, 422, 429]).toContain(status);
    if (status !== 429) continue;
    expect(body).toMatchObject({ code: 'RATE_LIMITED', status: 429 });
    const seconds = Number(headers.get('retry-after'));
    expect(seconds).toBeGreaterThanOrEqual(1);
    expect(seconds).toBeLessThanOrEqual(60);
  }
  return answers.filter(({ status }) => status !== 429).length;
}

async function reader({ cluster, tokenOf, ask }: Served) {
  const [user] = (await cluster.users(1)) as [number];
  const token = await tokenOf(user);
  return {
    token,
    read: () => ask('GET', '/post/feed', { token }),
    write: () => ask('POST', '/post/create', { token, body: { text: '' } }),
  };
}

test('by default a user may read 100 times a minute and write 50 times, and 20% more as a burst', async () => {
  const gateway = await served();
  const [one, other] = [await reader(gateway), await reader(gateway)];
  expect(await admitted(90, one.write)).toBe(60);
  expect(await admitted(90, one.read), 'writes are requests too').toBe(120 - 90);
  expect(await admitted(10, other.read), 'another user is another one').toBe(10);
});

test('by default an address may ask 1,000 times a minute, 500 of them without a token, and 20% more', async () => {
  const gateway = await served();
  expect(await admitted(700, () => gateway.ask('GET', '/post/feed', { token: 'forged' }))).toBe(600);
  expect(await admitted(50, () => gateway.ask('GET', '/no/such/route'))).toBe(0);
  const readers = await Promise.all(Array.from({ length: 10 }, () => reader(gateway)));
  let left = 0;
  for (const { read } of readers) left += await admitted(60, read);
  expect(left, 'of the address, 700 having been counted').toBe(1_200 - 750);
  for (const path of ['/healthz', '/readyz', '/metrics'])
    expect((await gateway.ask('GET', path)).status, path).toBe(200);
  const metrics: string = (await gateway.ask('GET', '/metrics')).body;
  expect(metrics.match(/^feedctl_gateway_rate_limited_total\{.* [1-9]\d*$/gm)).toEqual([
    'feedctl_gateway_rate_limited_total{limit="ip"} 150',
    'feedctl_gateway_rate_limited_total{limit="stranger"} 150',
  ]);
});

test('limits are settings, and 0 is none', async () => {
  const limits = { ...UNLIMITED, user: 5, burstPercent: 40 };
  const gateway = await served({ limits });
  expect(REQUEST_LIMITS).toMatchObject({ user: 100, userWrites: 50, ip: 1_000, ipUnauthenticated: 500 });
  expect(await admitted(20, (await reader(gateway)).read)).toBe(7);
  expect(
    await admitted(1_500, () => gateway.ask('GET', '/no/such/route').then((a) => ({ ...a, status: 200 }))),
  ).toBe(1_500);
});

test('X-Forwarded-For is believed where a trusted proxy wrote it, and nowhere else', async () => {
  const limits = { ...UNLIMITED, ipUnauthenticated: 3 };
  const via = ({ ask }: Served, address: string) =>
    admitted(5, () => ask('GET', '/post/feed', { headers: { 'x-forwarded-for': address } }));
  const untrusting = await served({ limits });
  expect(await via(untrusting, '192.0.2.1')).toBe(3);
  expect(await via(untrusting, '192.0.2.2')).toBe(0);
  const trusting = await served({ limits, trustedProxies: ['127.0.0.0/8', '10.0.0.0/8'] });
  expect(await via(trusting, '192.0.2.1')).toBe(3);
  expect(await via(trusting, '192.0.2.2')).toBe(3);
  expect(await via(trusting, '192.0.2.1, 10.1.1.1'), 'through two proxies').toBe(0);
  expect(await via(trusting, '203.0.113.9, 192.0.2.1'), 'made up by the client').toBe(0);
  expect(await via(trusting, '2001:db8::1')).toBe(3);
  expect(await via(trusting, '2001:db8::ffff:1'), 'one subscriber’s network').toBe(0);
  await expect(served({ trustedProxies: ['somewhere'] })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});

test('WebSockets that are opened are requests, of their user or of a stranger', async () => {
  const gateway = await served({ limits: { ...UNLIMITED, user: 5, ipUnauthenticated: 3 } });
  const { token, read } = await reader(gateway);
  const open = async (query: string) => {
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/post/feed/posted?token=${query}`);
    socket.on('error', () => {});
    const refused = once(socket, 'unexpected-response').then(([, { statusCode, headers }]) => {
      if (statusCode === 429) expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(1);
      return statusCode as number;
    });
    const opened = once(socket, 'open').then(() => 101);
    const status = await Promise.race([refused, opened]);
    socket.terminate();
    return status;
  };
  const inTurn = async (count: number, query: string) => {
    const statuses: number[] = [];
    for (let i = 0; i < count; i += 1) statuses.push(await open(query));
    return statuses;
  };
  expect(await inTurn(5, 'forged')).toEqual([401, 401, 401, 429, 429]);
  expect(await inTurn(4, token)).toEqual([101, 101, 101, 101]);
  expect(await admitted(3, read)).toBe(1);
  expect(await inTurn(1, token)).toEqual([429]);
});

test('so many wrong passwords of an account are taken in ten minutes, wherever they come from', async () => {
  expect(REQUEST_LIMITS.failedLogins).toBe(10);
  const limits = { ...UNLIMITED, failedLogins: 3 };
  const { ask } = await served({ limits, trustedProxies: ['127.0.0.0/8'] });
  const register = async () =>
    (await ask('POST', '/user/register', { body: { first_name: 'A', second_name: 'B', password: 'right' } }))
      .body.user_id as string;
  const [id, other] = [await register(), await register()];
  let guesses = 0;
  const login = async (user: string, password: string) => {
    guesses += 1;
    const headers = { 'x-forwarded-for': `192.0.2.${guesses}` };
    return ask('POST', '/login', { body: { id: user, password }, headers });
  };
  for (let i = 0; i < 2; i += 1) expect((await login(id, 'wrong')).status).toBe(401);
  expect((await login(id, 'right')).status, 'which begins anew').toBe(200);
  const statuses = (await Promise.all(Array.from({ length: 8 }, () => login(id, 'wrong')))).map(
    ({ status }) => status,
  );
  expect(statuses.filter((status) => status === 401)).toHaveLength(3);
  expect(statuses.filter((status) => status === 429)).toHaveLength(5);
  const refused = await login(id, 'right');
  expect(refused).toMatchObject({ status: 429, body: { code: 'RATE_LIMITED' } });
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(500);
  expect((await login(other, 'right')).status, 'another account').toBe(200);
  for (let i = 0; i < 5; i += 1) expect((await login('999', 'wrong')).status, 'no account').toBe(404);
});

describe.skipIf(!(await findServer('redis')))('with a Redis', () => {
  test('all gateways count together, and each for itself while Redis is away', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const options = { limits: { ...UNLIMITED, user: 10 }, limitsUrl: redis.url };
    const here = await served(options);
    const there = await served(options, here.cluster);
    const { token } = await reader(here);
    // A gateway is connected to Redis when its count includes requests at the other one.
    await expect
      .poll(async () => {
        const probe = await reader(here);
        await admitted(10, () => here.ask('GET', '/post/feed', { token: probe.token }));
        return admitted(1, () => there.ask('GET', '/post/feed', { token: probe.token }));
      })
      .toBe(0);
    const both = [here, there].map(({ ask }) => admitted(10, () => ask('GET', '/post/feed', { token })));
    expect((await Promise.all(both)).reduce((sum, count) => sum + count)).toBe(10);
    await redis.down('kill');
    const alone = await reader(here);
    expect(await admitted(15, alone.read)).toBe(10);
    await redis.up();
    await expect
      .poll(async () => {
        const probe = await reader(here);
        await admitted(10, () => here.ask('GET', '/post/feed', { token: probe.token }));
        return admitted(1, () => there.ask('GET', '/post/feed', { token: probe.token }));
      })
      .toBe(0);
  });
});
