import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { SignJWT } from 'jose';
import { expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import { gatewayFlags, gatewayOptions } from '../../../src/cli/flags/gateway.ts';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import { liveQueue } from '../../../src/engine/live/notifier.ts';
import { CLOSE_CODES } from '../../../src/engine/live/session.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import { encodeLive } from '../../../src/engine/model/messages.ts';
import { SOCKETS } from '../../../src/engine/resilience/limits.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { readTokenKeys, type TokenKey } from '../../../src/engine/store/tokenKeys.ts';
import { testCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { FeedClient } from '../../support/feedClient.ts';
import { followedAuthor, testClient, testGateway } from '../../support/gateways.ts';

const GATEWAY_FLAGS = {
  host: '127.0.0.1',
  port: 0,
  'sockets-per-user': 0,
  'sockets-per-ip': 0,
  'user-limit': 0,
  'user-write-limit': 0,
  'ip-limit': 0,
  'ip-unauthenticated-limit': 0,
  'limit-burst': 0,
  'failed-login-limit': 0,
};

/** The status of a handshake: 101 where it is let in. */
function handshake(url: string, query: string, headers: Record<string, string> = {}): Promise<number> {
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/post/feed/posted${query}`, { headers });
  onTestFinished(() => socket.terminate());
  return new Promise((resolve, reject) => {
    socket.on('open', () => resolve(101));
    socket.on('unexpected-response', (_, response) => resolve(response.statusCode!));
    socket.on('error', reject);
  });
}

test('nobody gets in without a token of this cluster that is good', async () => {
  const cluster = await testCluster();
  const gateway = await testGateway(cluster);
  const [user] = (await cluster.users(1)) as [number];
  const good = await signToken(cluster.db, user);
  const [header, payload, signature] = good.split('.') as [string, string, string];
  const none = Buffer.from('{"alg":"none"}').toString('base64url');
  const [key] = (await readTokenKeys(cluster.db)) as [TokenKey];
  const secret = Buffer.from(key.secret, 'hex');
  const signed = (by: Uint8Array, until: string) =>
    new SignJWT()
      .setProtectedHeader({ alg: 'HS256', kid: key.id })
      .setSubject(String(user))
      .setExpirationTime(until)
      .sign(by);
  const bad = {
    missing: '',
    empty: '?token=',
    rubbish: '?token=rubbish',
    'without a signature': `?token=${header}.${payload}.`,
    'alg none': `?token=${none}.${payload}.`,
    'alg none, signed': `?token=${none}.${payload}.${signature}`,
    'with another key': `?token=${await signed(new Uint8Array(32), '1h')}`,
    expired: `?token=${await signed(secret, '-1s')}`,
  };
  for (const [what, query] of Object.entries(bad))
    expect(await handshake(gateway.url, query), what).toBe(401);
  expect(await handshake(gateway.url, `?token=${good}&after=rubbish`)).toBe(400);
  expect(await handshake(gateway.url, `?token=${good}`)).toBe(101);
  expect(await handshake(gateway.url, `?token=${await signed(secret, '1h')}`)).toBe(101);
});

test('a socket is closed when its token has expired', async () => {
  const cluster = await testCluster();
  const [user] = (await cluster.users(1)) as [number];
  const gateway = await testGateway(cluster, { heartbeatMs: 400 });
  const [key] = (await readTokenKeys(cluster.db)) as [TokenKey];
  const token = await new SignJWT()
    .setProtectedHeader({ alg: 'HS256', kid: key.id })
    .setSubject(String(user))
    .setExpirationTime('2s')
    .sign(Buffer.from(key.secret, 'hex'));
  const client = new FeedClient(user, token);
  onTestFinished(() => client.stop());
  await client.open(gateway.url);
  await expect.poll(() => client.closes, { timeout: 10_000 }).toEqual([CLOSE_CODES.policy]);
});

test('a gateway pings as often as it is set to, and a client that answers stays connected', async () => {
  const cluster = await testCluster();
  const [user] = (await cluster.users(1)) as [number];
  const flags = { ...GATEWAY_FLAGS, 'ping-interval': 1 };
  const gateway = await testGateway(cluster, gatewayOptions(flags).sockets);
  const client = new FeedClient(user, await signToken(cluster.db, user));
  onTestFinished(() => client.stop());
  await client.open(gateway.url);
  let pings = 0;
  client.socket.on('ping', () => {
    pings += 1;
  });
  await expect.poll(() => pings, { timeout: 20_000 }).toBeGreaterThanOrEqual(3);
  expect(client.closes).toEqual([]);
  expect(gatewayFlags['ping-interval'].default).toBe(20);
});

test('a post that was held up comes to a socket that was opened meanwhile', async () => {
  const { cluster, gateway, author, reader, client } = await followedAuthor();
  await client.open(gateway.url);
  const late = firstIdAt(Date.now() - 3_600_000);
  await cluster.db.query(
    `insert into posts (id, author_id, body, created_at) values ($1, $2, 'held up', now())`,
    [late, author],
  );
  const record = { userId: reader, authorId: author, postId: late };
  const body = encodeLive({ importId: 0, committedAt: Date.now() }, [record]);
  for (let twice = 0; twice < 2; twice += 1)
    await cluster.bus.publish([{ queue: liveQueue(gateway.id), body }]);
  const { id } = await createPost(cluster, author, 'after it');
  await expect.poll(() => client.posts).toEqual([late, id]);
});

test('origins that are not allowed are refused, clients that are no browsers are not', async () => {
  const cluster = await testCluster();
  const gateway = await testGateway(cluster, { origins: ['https://app.example'] });
  const [user] = (await cluster.users(1)) as [number];
  const query = `?token=${await signToken(cluster.db, user)}`;
  expect(await handshake(gateway.url, query, { origin: 'https://evil.example' })).toBe(403);
  expect(await handshake(gateway.url, query, { origin: 'https://app.example' })).toBe(101);
  expect(await handshake(gateway.url, query, { origin: gateway.url }), 'its own page').toBe(101);
  const behindProxy = { host: 'feeds.example', origin: 'https://feeds.example' };
  expect(await handshake(gateway.url, query, behindProxy), 'under another name').toBe(101);
  expect(await handshake(gateway.url, query, { origin: 'null' }), 'a page in a sandbox').toBe(403);
  expect(await handshake(gateway.url, query)).toBe(101);
  for (const origin of ['https://app.example/', 'https://App.example', 'app.example', '*'])
    expect(await rejection(testGateway(cluster, { origins: [origin] })), origin).toMatchObject({
      code: 'CONFIG_INVALID',
    });
});

test('a user has 20 sockets, and an address 1,000, unless it is set otherwise', async () => {
  expect(SOCKETS).toMatchObject({ perUser: 20, perIp: 1_000 });
  const cluster = await testCluster();
  const gateway = await testGateway(cluster);
  const [user, other] = (await cluster.users(2)) as [number, number];
  const query = `?token=${await signToken(cluster.db, user)}`;
  const statuses = await Promise.all(Array.from({ length: 25 }, () => handshake(gateway.url, query)));
  expect(statuses.filter((status) => status === 101).length).toBe(20);
  expect(statuses.filter((status) => status === 429).length).toBe(5);
  const narrow = await testGateway(cluster, { limits: { perUser: 0, perIp: 3 } });
  const client = await testClient(cluster, other);
  for (let i = 0; i < 3; i += 1) expect(await handshake(narrow.url, query)).toBe(101);
  await expect(client.open(narrow.url)).rejects.toThrow('HTTP 429');
});

test('what clients may not send closes their socket with a code, and nobody else’s', async () => {
  const { cluster, gateway, author, reader, client: bystander } = await followedAuthor();
  await bystander.open(gateway.url);
  const closedBy = async (act: (socket: WebSocket) => void): Promise<number> => {
    const client = await testClient(cluster, reader);
    await client.open(gateway.url);
    const closed = once(client.socket, 'close');
    act(client.socket);
    return (await closed)[0] as number;
  };
  const raw = (socket: WebSocket) => (socket as unknown as { _socket: Socket })._socket;
  expect(await closedBy((socket) => socket.send('x'.repeat(1024 ** 2)))).toBe(1009);
  expect(await closedBy((socket) => socket.send(Buffer.alloc(10)))).toBe(1003);
  // A masked text frame of two bytes that are no UTF-8.
  expect(
    await closedBy((socket) => raw(socket).write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28]))),
  ).toBe(1007);
  // One that is not masked, as every client's has to be.
  expect(await closedBy((socket) => raw(socket).write(Buffer.from([0x81, 0x01, 0x41])))).toBe(1002);
  const flood = (socket: WebSocket) => {
    for (let i = 0; i <= SOCKETS.inbound; i += 1) socket.ping();
  };
  expect(await closedBy(flood)).toBe(1008);
  bystander.socket.send('hello');
  const { id } = await createPost(cluster, author, 'all the same');
  await expect.poll(() => bystander.posts).toEqual([id]);
  expect(gateway.sockets).toBe(1);
});

test('a client that does not read is closed at the bound, and gets the rest when it comes back', async () => {
  const { cluster, gateway, author, client } = await followedAuthor();
  await client.open(gateway.url);
  client.socket.pause();
  const ids: number[] = [];
  let most = 0;
  // The kernel takes some megabytes before anything waits in the gateway. Posts are as large as they may
  // be: a client that has missed more than 1,000 reads its feed instead.
  while (gateway.sockets > 0) {
    const batch = await Promise.all(
      Array.from({ length: 20 }, () => createPost(cluster, author, '\u{10348}'.repeat(4_900))),
    );
    ids.push(...batch.map(({ id }) => id));
    await cluster.settled();
    for (const { bufferedBytes } of gateway.connections()) most = Math.max(most, bufferedBytes);
    expect(ids.length).toBeLessThan(5_000);
  }
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThan(SOCKETS.bufferedBytes + 64 * 1024);
  const closed = once(client.socket, 'close');
  client.socket.resume();
  await closed;
  await client.open(gateway.url);
  await expect.poll(() => new Set(client.posts).size).toBe(ids.length);
  expect(client.posts.length).toBe(ids.length);
});

test('a client whose network has gone is let go after two heartbeats, one that answers is not', async () => {
  const cluster = await testCluster();
  const gateway = await testGateway(cluster, { heartbeatMs: 300 });
  const [silent, answering] = (await cluster.users(2)) as [number, number];
  const client = await testClient(cluster, answering);
  await client.open(gateway.url);
  const { hostname, port } = new URL(gateway.url);
  const socket = connect(Number(port), hostname);
  onTestFinished(() => void socket.destroy());
  socket.write(
    `GET /post/feed/posted?token=${await signToken(cluster.db, silent)} HTTP/1.1\r\nHost: x\r\n` +
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
  );
  await expect.poll(() => gateway.sockets).toBe(2);
  await expect.poll(() => [...gateway.connections()].map(({ userId }) => userId)).toEqual([answering]);
  const announced = () => cluster.db.query('select 1 from presence where user_id = $1', [silent]);
  await expect.poll(async () => (await announced()).rowCount).toBe(0);
  expect(client.isOpen).toBe(true);
});

test('a gateway that stops closes its sockets with 1012, and they go on at another without a gap', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const [first, second] = [await testGateway(cluster), await testGateway(cluster)];
  const [author, ...readers] = (await cluster.users(41)) as [number, ...number[]];
  const clients = await Promise.all(readers.map((reader) => testClient(cluster, reader)));
  for (const reader of readers) await follow(cluster, { followerId: reader, followeeId: author });
  await cluster.settled();
  let urls = [first.url];
  await Promise.all(clients.map((client) => client.stay(() => urls)));
  urls = [second.url];
  const ids: number[] = [];
  let stopped = false;
  const posting = (async () => {
    while (!stopped) ids.push((await createPost(cluster, author, 'on and on')).id);
  })();
  await expect.poll(() => clients.every((client) => client.posts.length > 3)).toBe(true);
  await first.stop(5_000);
  await expect.poll(() => second.sockets).toBe(40);
  stopped = true;
  await posting;
  for (const client of clients) {
    await expect.poll(() => client.posts.length).toBe(ids.length);
    expect(client.posts.toSorted((a, b) => a - b)).toEqual(ids);
    expect(client.closes[0]).toBe(1012);
  }
});

test('a request that is being made when the gateway stops is answered, and no other is taken', async () => {
  const cluster = await testCluster();
  const gateway = await testGateway(cluster);
  const [user] = (await cluster.users(1)) as [number];
  const token = await signToken(cluster.db, user);
  const { hostname, port } = new URL(gateway.url);
  const body = '{"text":"at the last moment"}';
  /** Has sent all but the last part of a request; what came before it has been answered. */
  const asking = async () => {
    const socket = connect(Number(port), hostname);
    onTestFinished(() => void socket.destroy());
    socket.write(
      'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n' +
        `POST /post/create HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 8)}`,
    );
    await once(socket, 'data');
    return socket;
  };
  const [one] = [await asking(), await asking()];
  const stopped = gateway.stop(4_000);
  const taken = () =>
    fetch(gateway.url).then(
      () => true,
      () => false,
    );
  await expect.poll(taken).toBe(false);
  one.write(body.slice(8));
  const [answer] = (await once(one, 'data')) as [Buffer];
  expect(String(answer)).toMatch(/^HTTP\/1.1 201 /);
  // The other is cut at the deadline.
  await stopped;
});
