import { once } from 'node:events';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { served } from './served.ts';

/** Returns the messageId of the first frame, or the status of the refusal. */
async function connect(url: string, query: string): Promise<string | number> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/post/feed/posted?${query}`);
  const refused = once(socket, 'unexpected-response').then(([, response]) => response.statusCode);
  const hello = once(socket, 'message').then(([data]) => JSON.parse(String(data)).messageId);
  socket.on('error', () => {});
  const result = await Promise.race([refused, hello]);
  refused.catch(() => {});
  hello.catch(() => {});
  socket.terminate();
  return result;
}

test('a ticket opens one WebSocket, at whichever gateway it comes to first', async () => {
  const here = await served();
  const there = await served({}, here.cluster);
  const [user] = (await here.cluster.users(1)) as [number];
  const token = await here.tokenOf(user);
  expect((await here.ask('POST', '/ticket')).status, 'without a token').toBe(401);
  const { status, body } = await here.ask('POST', '/ticket', { token });
  expect({ status, body }).toEqual({ status: 201, body: { ticket: expect.any(String), expiresIn: 30 } });
  const query = `ticket=${body.ticket}`;
  const tries = [here, there, here, there].map(({ url }) => connect(url, query));
  expect((await Promise.all(tries)).sort()).toEqual([401, 401, 401, 'hello']);
  expect(await connect(there.url, query), 'replayed').toBe(401);
  const { rows } = await here.cluster.db.query('select 1 from tickets');
  expect(rows).toEqual([]);
});

test('a ticket that is old or made up opens nothing, and a token opens as before', async () => {
  const { cluster, ask, url, tokenOf } = await served();
  const [user] = (await cluster.users(1)) as [number];
  const token = await tokenOf(user);
  const { body } = await ask('POST', '/ticket', { token });
  await cluster.db.query(`update tickets set expires_at = now() - interval '1 s'`);
  expect(await connect(url, `ticket=${body.ticket}`)).toBe(401);
  for (const query of ['ticket=', 'ticket=made-up', `ticket=x&token=${token}`, `ticket=${token}`])
    expect(await connect(url, query), query).toBe(401);
  expect(await connect(url, `token=${token}`)).toBe('hello');
});
