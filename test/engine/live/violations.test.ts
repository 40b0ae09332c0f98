import { expect, test } from 'vitest';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import { CLOSE_CODES } from '../../../src/engine/live/session.ts';
import { SOCKETS } from '../../../src/engine/resilience/limits.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { testCluster } from '../../support/cluster.ts';
import { followedAuthor, testGateway } from '../../support/gateways.ts';
import { closeFrame, handshake, OPCODES, type RawFrame, RawSocket } from '../../support/rawSocket.ts';

/** Many sockets at once, each cut some seconds after its close frame. */
const TIMEOUT = { timeout: 300_000 };
const { continuation, text, ping, pong, close } = OPCODES;
const { payloadBytes, inbound } = SOCKETS;
const some = Buffer.from('x');
const flood = (opcode: number) => Array.from({ length: inbound + 1 }, (): RawFrame => ({ opcode }));

/** What a client sends, and the code of the close frame that answers it. */
const VIOLATIONS: readonly (readonly [what: string, code: number, frames: readonly RawFrame[]])[] = [
  ...[0x40, 0x20, 0x10, 0x70].map(
    (reserved) => [`reserved bits ${reserved}`, 1002, [{ opcode: text, payload: some, reserved }]] as const,
  ),
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`opcode ${opcode}`, 1002, [{ opcode }]] as const),
  ...[ping, pong, close].map(
    (opcode) => [`a fragmented control frame ${opcode}`, 1002, [{ opcode, fin: false }]] as const,
  ),
  ...[ping, pong, close].map(
    (opcode) => [`a control frame ${opcode} of 126`, 1002, [{ opcode, payload: Buffer.alloc(126) }]] as const,
  ),
  ...[ping, pong, close, text].map(
    (opcode) => [`an unmasked frame ${opcode}`, 1002, [{ opcode, masked: false }]] as const,
  ),
  ['a continuation of nothing', 1002, [{ opcode: continuation, payload: some }]],
  [
    'a message inside another',
    1002,
    [
      { opcode: text, payload: some, fin: false },
      { opcode: text, payload: some },
    ],
  ],
  ...[0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535].map(
    (code) => [`the close code ${code}`, 1002, [closeFrame(code)]] as const,
  ),
  ['half a close code', 1002, [{ opcode: close, payload: some }]],
  ['a close reason that is no UTF-8', 1007, [closeFrame(1000, Buffer.from([0xc3, 0x28]))]],
  ['a text that is no UTF-8', 1007, [{ opcode: text, payload: Buffer.from([0xed, 0xa0, 0x80]) }]],
  ['a frame that is too long, at its header', 1009, [{ opcode: text, length: payloadBytes + 1 }]],
  ['a frame of 2^40 bytes, at its header', 1009, [{ opcode: text, length: 2 ** 40 }]],
  ['a frame of 2^53 bytes, at its header', 1009, [{ opcode: text, length: 2 ** 53 }]],
  [
    'fragments that are too long together',
    1009,
    [
      { opcode: text, payload: Buffer.alloc(payloadBytes, 'x'), fin: false },
      { opcode: continuation, payload: some },
    ],
  ],
  ['too many texts', CLOSE_CODES.policy, flood(text)],
  ['too many pings', CLOSE_CODES.policy, flood(ping)],
  ['too many pongs', CLOSE_CODES.policy, flood(pong)],
];

test(
  'each violation of the protocol closes its socket with a documented code, and no other socket',
  TIMEOUT,
  async () => {
    const { cluster, gateway, author, reader, client: bystander } = await followedAuthor();
    const unlimited = await testGateway(cluster, { limits: { perUser: 0, perIp: 0 } });
    await bystander.open(unlimited.url);
    const query = `token=${await signToken(cluster.db, reader)}`;
    const answers = await Promise.all(
      VIOLATIONS.map(async ([what, , frames]) => {
        const socket = await RawSocket.open(unlimited.url, query);
        expect(socket.status, what).toBe(101);
        socket.send(...frames);
        // The client never answers the close frame: the gateway cuts it.
        return [what, await socket.closed()];
      }),
    );
    expect(answers).toEqual(VIOLATIONS.map(([what, code]) => [what, code]));
    await expect.poll(() => unlimited.sockets).toBe(1);
    const { id } = await createPost(cluster, author, 'all the same');
    await expect.poll(() => bystander.posts).toEqual([id]);
    expect(bystander.closes).toEqual([]);
    expect(gateway.sockets).toBe(0);
  },
);

test('texts, pings and pongs within the limits change nothing, and a close is answered with its code', async () => {
  const { cluster, gateway, author, reader } = await followedAuthor();
  const socket = await RawSocket.open(gateway.url, `token=${await signToken(cluster.db, reader)}`);
  const longest = Buffer.alloc(payloadBytes, 'x');
  socket.send(
    { opcode: text, payload: Buffer.from('{"messageId":"post"}') },
    { opcode: text, payload: longest },
    { opcode: text, payload: longest.subarray(1), fin: false },
    { opcode: ping, payload: Buffer.from('between') },
    { opcode: continuation, payload: some },
    { opcode: pong, payload: Buffer.alloc(125) },
    { opcode: text },
  );
  const pongs = () => socket.frames().filter(({ opcode }) => opcode === pong);
  await expect.poll(() => pongs().map(({ payload }) => String(payload))).toEqual(['between']);
  const { id } = await createPost(cluster, author, 'a post');
  const texts = () => socket.frames().filter(({ opcode }) => opcode === text);
  await expect.poll(() => texts().some(({ payload }) => payload.includes(`"${id}"`))).toBe(true);
  socket.send(closeFrame(4999, 'goodbye'));
  expect(await socket.closed()).toBe(4999);
  await expect.poll(() => gateway.sockets).toBe(0);
});

test(
  'clients that never read are closed with 4008, and the gateway holds at most 1 MiB for each',
  TIMEOUT,
  async () => {
    const { cluster, gateway, author, reader, client: bystander } = await followedAuthor();
    await bystander.open(gateway.url);
    const query = `token=${await signToken(cluster.db, reader)}`;
    const slow = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const socket = await RawSocket.open(gateway.url, query);
        socket.stopReading();
        return socket;
      }),
    );
    const metric = async (name: string) => {
      const text = await (await fetch(`${gateway.url}/metrics`)).text();
      return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
    };
    const closed = () => metric(`feedctl_gateway_closed_total\\{code="${CLOSE_CODES.tooSlow}"\\}`);
    let posts = 0;
    let most = 0;
    // The kernel takes some megabytes of each before anything waits in the gateway.
    while ((await closed()) < slow.length) {
      const batch = Array.from({ length: 20 }, () => createPost(cluster, author, '\u{10348}'.repeat(4_900)));
      posts += (await Promise.all(batch)).length;
      await cluster.settled();
      most = Math.max(most, await metric('feedctl_gateway_buffered_bytes'));
      expect(posts).toBeLessThan(5_000);
    }
    expect(most).toBeGreaterThan(SOCKETS.bufferedBytes);
    expect(most).toBeLessThan(slow.length * (SOCKETS.bufferedBytes + 64 * 1024));
    // They answer no close frame, so the gateway cuts them and frees what waited.
    await expect.poll(() => gateway.sockets).toBe(1);
    await expect.poll(() => bystander.posts.length).toBe(posts);
    await expect.poll(() => metric('feedctl_gateway_buffered_bytes')).toBe(0);
    expect(bystander.closes).toEqual([]);
  },
);

test('handshakes that never end are cut, and others are admitted meanwhile', TIMEOUT, async () => {
  const cluster = await testCluster();
  const gateway = await testGateway(cluster);
  const [user] = (await cluster.users(1)) as [number];
  const query = `token=${await signToken(cluster.db, user)}`;
  const whole = handshake(query);
  const starts = ['', 'G', whole.slice(0, 30), whole.slice(0, -2)];
  const halves = await Promise.all(
    starts.flatMap((start) =>
      Array.from({ length: 50 }, async () => {
        const socket = await RawSocket.connect(gateway.url);
        if (start) socket.connection.write(start);
        return socket;
      }),
    ),
  );
  expect(await RawSocket.open(gateway.url, query)).toMatchObject({ status: 101 });
  const codes = await Promise.all(halves.map((socket) => socket.closed()));
  expect(codes.every((code) => code === undefined)).toBe(true);
  for (const socket of halves) expect(socket.text).toMatch(/^HTTP\/1\.1 408 /);
  expect(gateway.sockets).toBe(1);
});

test('a handshake has at most 16 KiB of headers, and one that is no handshake is refused', async () => {
  const cluster = await testCluster();
  const gateway = await testGateway(cluster);
  const [user] = (await cluster.users(1)) as [number];
  const query = `token=${await signToken(cluster.db, user)}`;
  const statusOf = async (parameters: string, headers = '') =>
    (await RawSocket.open(gateway.url, parameters, headers)).status;
  const lines = (count: number) => `X-More: ${'a'.repeat(90)}\r\n`.repeat(count);
  expect(await statusOf(query, lines(100))).toBe(101);
  expect(await statusOf(query, lines(200))).toBe(431);
  expect(await statusOf(`token=${'a'.repeat(15_000)}`)).toBe(401);
  expect(await statusOf(`token=${'a'.repeat(17_000)}`)).toBe(431);
  expect(await statusOf(`${query}&after=${'A'.repeat(5_000)}`)).toBe(400);
  const spoilt = async (from: string | RegExp, to: string) => {
    const socket = await RawSocket.connect(gateway.url);
    socket.connection.write(handshake(query).replace(from, to));
    await socket.closed();
    return Number(socket.text.split(' ')[1]);
  };
  expect(await spoilt('Version: 13', 'Version: 12')).toBe(400);
  expect(await spoilt(/Sec-WebSocket-Key: .*\r\n/, '')).toBe(400);
  expect(await spoilt('AAAA==', 'AAAA')).toBe(400);
  expect(await spoilt('GET', 'POST')).toBe(405);
  await expect.poll(() => gateway.sockets).toBe(1);
});
