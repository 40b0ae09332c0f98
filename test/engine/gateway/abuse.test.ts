import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { runConcurrently } from '../../../src/engine/util/parallel.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { send } from './rawRequest.ts';
import { type Served, served } from './served.ts';

/** Bodies for each route; FEEDCTL_BODIES=10000 for a thorough run. */
const BODIES = Number(process.env.FEEDCTL_BODIES || 500);
const AT_A_TIME = 16;
const MiB = 1024 ** 2;

const agent = new Agent({ keepAlive: true, maxSockets: AT_A_TIME });

const field = fc.oneof(
  fc.constantFrom(
    'id',
    'text',
    'version',
    'first_name',
    'second_name',
    'birthdate',
    'age',
    'biography',
    'city',
    'password',
  ),
  fc.constantFrom('__proto__', 'constructor', 'user_id', 'author_user_id', 'deleted_at', 'toString'),
  fc.string(),
);
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 4 }),
  fc.constantFrom(
    '',
    '0',
    '1',
    '9007199254740991',
    '9007199254740992',
    '-1',
    '1e3',
    ' ',
    '\0',
    '\ud800',
    '9999-12-31',
  ),
  fc.double({ noDefaultInfinity: true, noNaN: true }),
  fc.maxSafeInteger(),
  fc.string({ unit: 'binary', maxLength: 200 }),
);
const body = fc.oneof(
  { weight: 6, arbitrary: fc.dictionary(field, value, { maxKeys: 8 }).map((one) => JSON.stringify(one)) },
  { weight: 2, arbitrary: fc.jsonValue().map((one) => JSON.stringify(one)) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 500 }) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes)) },
);
const type = fc.oneof(
  { weight: 9, arbitrary: fc.constant('application/json') },
  { weight: 1, arbitrary: fc.constantFrom('text/plain', 'application/x-www-form-urlencoded', 'image/png') },
);
const segment = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.constantFrom('0', '-1', '9007199254740992', '..', '%2e%2e', '1;drop table users', '1 or 1=1', '%00'),
    fc.maxSafeNat().map(String),
  )
  .map((one) => encodeURIComponent(one.toWellFormed()));

const ROUTES: readonly (readonly [string, fc.Arbitrary<string>])[] = [
  ['POST', fc.constant('/user/register')],
  ['POST', fc.constant('/login')],
  ['POST', fc.constant('/post/create')],
  ['PUT', fc.constant('/post/update')],
  ['POST', fc.constant('/ticket')],
  ['PUT', segment.map((id) => `/post/delete/${id}`)],
  ['PUT', segment.map((id) => `/friend/set/${id}`)],
  ['PUT', segment.map((id) => `/friend/delete/${id}`)],
  ['GET', segment.map((id) => `/user/get/${id}`)],
  ['GET', segment.map((id) => `/post/get/${id}`)],
  [
    'GET',
    fc.tuple(segment, segment).map(([first, last]) => `/user/search?first_name=${first}&last_name=${last}`),
  ],
  [
    'GET',
    fc.tuple(segment, segment, segment).map(([a, b, c]) => `/post/feed?offset=${a}&limit=${b}&before=${c}`),
  ],
];

function heapUsed(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed;
}

test('whatever comes as a body or in a path: no 5xx, nothing of another user, memory flat', {
  timeout: 600_000,
}, async () => {
  const { cluster, ask, url, tokenOf } = await served({ limits: UNLIMITED });
  onTestFinished(() => agent.destroy());
  const [victim, attacker] = (await cluster.users(2)) as [number, number];
  const secret = 'a text of somebody else';
  const mine = await ask('POST', '/post/create', { token: await tokenOf(victim), body: { text: secret } });
  const token = await tokenOf(attacker);
  const seed = Number(process.env.FEEDCTL_SEED || Date.now() % 2 ** 31);
  const statuses = new Map<number, number>();
  const fire = async (count: number, salt: number) => {
    for (const [method, paths] of ROUTES) {
      const inputs = fc.sample(fc.tuple(paths, body, type), { numRuns: count, seed: seed + salt });
      await runConcurrently(inputs, AT_A_TIME, async ([path, sent, contentType]) => {
        const isGet = method === 'GET';
        const headers = { authorization: `Bearer ${token}`, 'content-type': contentType };
        const body = isGet ? '' : sent;
        const { status, text } = await send(url, { method, path, headers, body, agent });
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        const what = `${method} ${path} ${String(sent)} (seed ${seed})`;
        expect(status, `${what}: ${text}`).toBeLessThan(500);
        expect(text, what).not.toContain(secret);
      });
    }
  };
  await fire(Math.ceil(BODIES / 10), 1);
  const before = heapUsed();
  await fire(BODIES, 2);
  const grown = heapUsed() - before;
  expect(grown, `bytes more after ${BODIES * ROUTES.length} requests`).toBeLessThan(32 * MiB);
  expect(statuses.get(400), 'most of it is refused').toBeGreaterThan(BODIES);
  const still = await ask('GET', `/post/get/${mine.body.id}`);
  expect(still.body).toEqual(mine.body);
  const follows = await cluster.db.query('select 1 from follows where follower_id = $1', [victim]);
  expect(follows.rowCount).toBe(0);
  if (process.env.FEEDCTL_BODIES)
    process.stderr.write(
      `${BODIES} bodies a route: ${JSON.stringify([...statuses])}, ${Math.round(grown / 1024)} KiB more\n`,
    );
});

/** Sends raw bytes, and returns the response until the server closes the connection. */
async function raw({ url }: Served, first: string, more?: { bytes: string; everyMs: number }) {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  socket.on('error', () => {});
  socket.write(first);
  const closed = once(socket, 'close');
  const writing = more && setInterval(() => socket.writable && socket.write(more.bytes), more.everyMs);
  await closed;
  clearInterval(writing);
  return text;
}

test('a flood of headers is refused, and the gateway goes on', async () => {
  const gateway = await served();
  const line = `x-flood: ${'a'.repeat(1000)}\r\n`;
  const flood = `GET /healthz HTTP/1.1\r\nhost: x\r\n${line.repeat(40)}\r\n`;
  expect(await raw(gateway, flood)).toMatch(/^HTTP\/1\.1 431 .*application\/problem\+json/s);
  expect(await raw(gateway, 'this is no HTTP\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 .*"code":"USAGE"/s);
  const lengths = 'content-length: 5\r\ntransfer-encoding: chunked';
  const smuggled = `POST /post/create HTTP/1.1\r\nhost: x\r\n${lengths}\r\n\r\n0\r\n\r\nGET`;
  expect(await raw(gateway, smuggled)).toMatch(/^HTTP\/1\.1 400 /);
  expect((await gateway.ask('GET', '/healthz')).status).toBe(200);
  const big = await gateway.ask('POST', '/login', { body: { id: '1', password: 'x'.repeat(70_000) } });
  expect(big).toMatchObject({ status: 413, body: { code: 'USAGE' } });
});

test('who sends a byte at a time is cut off, in the header and in the body, while others are served', async () => {
  const gateway = await served();
  const trickle = { bytes: 'a', everyMs: 500 };
  const slow = [
    raw(gateway, 'GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ', trickle),
    raw(
      gateway,
      'POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{',
      trickle,
    ),
  ];
  const many = Array.from({ length: 200 }, () => raw(gateway, 'GET /healthz HTTP/1.1\r\n'));
  await sleep(100);
  expect((await gateway.ask('GET', '/healthz')).status).toBe(200);
  for (const text of await Promise.all([...slow, ...many])) expect(text).toMatch(/^HTTP\/1\.1 408 /);
});
