import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import {
  emptyDatabase,
  feedctl,
  json,
  type Running,
  start,
  startRole,
  temporaryDirectory,
  up,
  waitUntil,
} from '../support/cli.ts';

/** Two gateways and a worker, each a process of its own. */
let at: { env: Record<string, string> };
let worker: Running;
const gateways: (Running & { id: string; url: string })[] = [];

interface Listed {
  connections: { userId: number; gatewayId: string; delivered: number; since: string }[];
  total: number;
  unreachable: { gatewayId: string }[];
}
const listed = (...flags: string[]) => json<Listed>(['connection', 'list', ...flags], at);

async function startGateway() {
  const role = await startRole(['gateway', 'start', '--port', '0'], at);
  const { gatewayId, gatewayUrl } = JSON.parse(role.stdout()) as { gatewayId: string; gatewayUrl: string };
  gateways.push({ ...role, id: gatewayId, url: gatewayUrl });
}

/** A socket that has been said hello, and the code that it is closed with. */
async function listen(gateway: { url: string }, user: string): Promise<{ closed: Promise<number> }> {
  const { token } = await json<{ token: string }>(['user', 'token', user], at);
  const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/post/feed/posted?token=${token}`);
  const closed = new Promise<number>((done) => socket.once('close', done));
  await new Promise((done) => socket.once('message', done));
  return { closed };
}

beforeAll(async () => {
  at = { env: { FEEDCTL_DATABASE_URL: await emptyDatabase('cli_connections') } };
  await json(['migrate'], at);
  worker = start(['worker', 'start', '--json'], at);
  await Promise.all([worker.printed(/"ready": true/), startGateway()]);
  await startGateway();
  for (const id of ['1', '2']) await json(['user', 'create', '--id', id], at);
  await json(['follow', 'create', '2', '1'], at);
});
afterAll(() => {
  for (const role of [worker, ...gateways]) role.child.kill('SIGTERM');
});

test('connections are listed with where they are and what they got, of all users or of one', async () => {
  expect(await listed()).toEqual({ connections: [], total: 0, unreachable: [] });
  const [one, two] = gateways;
  await listen(one!, '2');
  await listen(two!, '1');
  await json(['post', 'create', '1', 'hello'], at);
  const mine = async () => (await listed('--user', '2')).connections;
  await waitUntil(async () => (await mine())[0]?.delivered === 1);
  expect(await mine()).toMatchObject([
    { userId: 2, gatewayId: one!.id, gatewayUrl: one!.url, bufferedBytes: 0, address: expect.any(String) },
  ]);
  expect(new Date((await mine())[0]!.since).getTime()).toBeLessThanOrEqual(Date.now());
  const all = await listed();
  expect(all.total).toBe(2);
  expect(all.connections.map(({ userId }) => userId).sort()).toEqual([1, 2]);
  expect(await listed('--limit', '0')).toMatchObject({ connections: [], total: 2 });
  const told = await feedctl(['connection', 'list'], at);
  expect(told).toMatchObject({ status: 0, stdout: expect.stringMatching(/^user +gateway +address/) });
  expect(told.stderr).toContain('2 of 2 connections');
});

test('nobody but an operator is told of connections, or may drain', async () => {
  const { token } = await json<{ token: string }>(['user', 'token', '1'], at);
  for (const headers of [{}, { authorization: `Bearer ${token}` }]) {
    const { url } = gateways[0]!;
    expect((await fetch(`${url}/admin/connections`, { headers })).status).toBe(401);
    expect((await fetch(`${url}/admin/drain`, { method: 'POST', headers })).status).toBe(401);
  }
});

test('a drain is planned, confirmed, and closes sockets with 1012; the process exits with 0', async () => {
  const [one] = gateways;
  const unknown = await feedctl(
    ['gateway', 'drain', '943e8033-dc64-43be-a622-b3ac83f15c68', '--yes', '--json'],
    at,
  );
  expect(unknown.status).toBe(1);
  expect(JSON.parse(unknown.stdout)).toMatchObject({ error: { code: 'GATEWAY_NOT_FOUND' } });
  const asked = await feedctl(['gateway', 'drain', one!.id, '--json'], at);
  expect(asked.status).toBe(2);
  expect(JSON.parse(asked.stdout)).toMatchObject({ error: { code: 'CONFIRMATION_REQUIRED' } });
  expect(await json(['gateway', 'drain', one!.id, '--dry-run'], at)).toMatchObject({
    drained: false,
    sockets: 1,
  });
  const { closed } = await listen(one!, '1');
  expect(await json(['gateway', 'drain', one!.id, '--yes'], at)).toMatchObject({
    gatewayId: one!.id,
    sockets: 2,
    drained: true,
  });
  expect(await closed).toBe(1012);
  expect((await one!.ended).status).toBe(0);
  expect(await json(['gateway', 'list'], at)).toMatchObject({ gateways: [{ id: gateways[1]!.id }] });
});

test('the gateway of `up` is not drained: that is more than a gateway', async () => {
  const cluster = await up(await temporaryDirectory());
  const { gateways: own } = await json<{ gateways: { id: string }[] }>(['gateway', 'list', ...cluster.at]);
  const refused = await feedctl(['gateway', 'drain', own[0]!.id, '--yes', '--json', ...cluster.at]);
  expect(refused.status).toBe(2);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    error: { code: 'USAGE', message: expect.stringContaining('feedctl down') },
  });
  expect((await feedctl(['down', ...cluster.at])).status).toBe(0);
});

test('a gateway that is gone leaves the list partly known', async () => {
  await startGateway();
  const [, two, three] = gateways;
  three!.child.kill('SIGKILL');
  await three!.ended;
  const partly = await feedctl(['connection', 'list', '--json'], at);
  expect(partly.status).toBe(3);
  expect(JSON.parse(partly.stdout)).toMatchObject({ total: 1, unreachable: [{ gatewayId: three!.id }] });
  const drained = await feedctl(['gateway', 'drain', three!.id, '--yes', '--json'], at);
  expect(drained.status).toBe(1);
  expect(JSON.parse(drained.stdout)).toMatchObject({ error: { code: 'GATEWAY_UNREACHABLE' } });
  two!.child.kill('SIGKILL');
  await two!.ended;
  const none = await feedctl(['connection', 'list', '--json'], at);
  expect(none.status).toBe(1);
  expect(JSON.parse(none.stdout)).toMatchObject({ error: { code: 'GATEWAY_UNREACHABLE' } });
});
