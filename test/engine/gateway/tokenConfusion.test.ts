import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { issueTicket } from '../../../src/engine/gateway/tickets.ts';
import { rotateTokenKey, signOperatorToken } from '../../../src/engine/gateway/tokens.ts';
import { readTokenKeys } from '../../../src/engine/store/tokenKeys.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { OPCODES, RawSocket } from '../../support/rawSocket.ts';
import type { Document } from './openapiDocument.ts';
import { type Served, served } from './served.ts';

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

/** Returns the user that a socket is for, or the status of the refusal. */
async function socketUser({ url }: Served, query: string, headers = ''): Promise<string | number> {
  const socket = await RawSocket.open(url, query, headers);
  if (socket.status !== 101) return socket.status;
  const texts = () => socket.frames().filter(({ opcode }) => opcode === OPCODES.text);
  await expect.poll(() => texts().length).toBeGreaterThan(0);
  socket.connection.destroy();
  return JSON.parse(String(texts()[0]!.payload)).payload.userId;
}

async function twoUsers() {
  const gateway = await served({ limits: UNLIMITED });
  const [mine, other] = (await gateway.cluster.users(2)) as [number, number];
  const [token, otherToken] = [await gateway.tokenOf(mine), await gateway.tokenOf(other)];
  return { ...gateway, at: gateway, mine, other, token, otherToken };
}

test('a token acts for its own user alone, whatever else the request names', async () => {
  const { at, cluster, ask, mine, other, token, otherToken } = await twoUsers();
  const post = (await ask('POST', '/post/create', { token: otherToken, body: { text: 'theirs' } })).body;
  const edit = { id: post.id, text: 'taken over', author_user_id: String(other), user_id: String(other) };
  const notMine = { status: 404, body: { code: 'POST_NOT_FOUND' } };
  expect(await ask('PUT', '/post/update', { token, body: edit })).toMatchObject(notMine);
  expect(await ask('PUT', `/post/delete/${post.id}`, { token })).toMatchObject(notMine);
  expect((await ask('GET', `/post/get/${post.id}`)).body).toEqual(post);
  const named = { 'x-user-id': String(other), 'x-forwarded-user': String(other), from: String(other) };
  const [third] = (await cluster.users(1)) as [number];
  const path = `/friend/set/${third}?user_id=${other}&token=${otherToken}`;
  expect(await ask('PUT', path, { token, headers: named })).toMatchObject({ status: 200 });
  const { rows } = await cluster.db.query('select follower_id::bigint as id from follows');
  expect(rows.map(({ id }) => Number(id))).toEqual([mine]);
  const feed = await ask('GET', `/post/feed?user_id=${other}`, { token, headers: named });
  expect(feed).toMatchObject({ status: 200, body: [] });
  expect(await socketUser(at, `token=${token}&user_id=${other}`)).toBe(String(mine));
});

test('a token in the query is for WebSockets and one in the header for requests; the first in a query counts', async () => {
  const { at, cluster, ask, mine, other, token, otherToken } = await twoUsers();
  expect((await ask('GET', `/post/feed?token=${token}`)).status).toBe(401);
  expect((await ask('GET', `/post/feed?access_token=${token}`)).status).toBe(401);
  const created = await ask('POST', `/post/create?token=${otherToken}`, { token, body: { text: 'mine' } });
  expect(created.body.author_user_id).toBe(String(mine));
  const header = (one: string) => `Authorization: Bearer ${one}\r\n`;
  expect(await socketUser(at, '', header(token))).toBe(401);
  expect(await socketUser(at, 'token=', header(token))).toBe(401);
  expect(await socketUser(at, 'token=rubbish', header(token))).toBe(401);
  expect(await socketUser(at, `token=${token}`, header(otherToken))).toBe(String(mine));
  expect(await socketUser(at, `token=${token}&token=${otherToken}`)).toBe(String(mine));
  expect(await socketUser(at, `token=rubbish&token=${token}`)).toBe(401);
  const { ticket } = await issueTicket(cluster.db, other);
  expect(await socketUser(at, `token=${token}&ticket=${ticket}`), 'the ticket').toBe(String(other));
  expect(await socketUser(at, `token=${token}&ticket=${ticket}`), 'used').toBe(401);
});

test('an operator’s token is no user’s, a user’s is no operator’s, and neither is a ticket', async () => {
  const { at, cluster, ask, token, mine } = await twoUsers();
  const operator = await signOperatorToken(cluster.db);
  const { paths }: Document = (await ask('GET', '/openapi.json')).body;
  const refused = { status: 401, body: { code: 'INVALID_TOKEN' } };
  const { ticket } = await issueTicket(cluster.db, mine);
  let checked = 0;
  for (const [pattern, operations] of Object.entries(paths))
    for (const [method, { security }] of Object.entries(operations)) {
      // Routes of operators take their tokens: the page's test has those.
      if (!security || JSON.stringify(security).includes('operator')) continue;
      checked += 1;
      const path = pattern.replace(/\{.*?\}/, '1');
      for (const one of [operator, ticket, ''])
        expect(await ask(method.toUpperCase(), path, bearer(one)), `${method} ${path}`).toMatchObject(
          refused,
        );
    }
  expect(checked).toBeGreaterThanOrEqual(7);
  expect(await socketUser(at, `token=${operator}`)).toBe(401);
  expect(await socketUser(at, `ticket=${operator}`)).toBe(401);
  expect(await socketUser(at, `token=${ticket}`)).toBe(401);
  const admin = [
    ['GET', '/admin/connections'],
    ['GET', '/admin/readers?limit=1'],
    ['POST', '/admin/drain'],
  ] as const;
  for (const [method, path] of admin)
    for (const one of [token, ticket, '', 'rubbish'])
      expect(await ask(method, path, bearer(one)), `${method} ${path}`).toMatchObject(refused);
  // The first token is for a minute, which a slow machine may have spent above.
  const fresh = await signOperatorToken(cluster.db);
  for (const [method, path] of admin.slice(0, 2))
    expect((await ask(method, path, bearer(fresh))).status, path).toBe(200);
  expect((await ask('GET', `/admin/connections?token=${operator}`)).status).toBe(401);
});

test('a token is refused whose key id, key, times or cluster are not right together', async () => {
  const { at, cluster, ask, mine, token } = await twoUsers();
  await rotateTokenKey(cluster.db, { revoke: false, dryRun: false });
  const [older, newer] = (await readTokenKeys(cluster.db)) as [
    { id: string; secret: string },
    { id: string; secret: string },
  ];
  const signed = (header: object, claims: object, secret = newer.secret) => {
    const parts = [
      { alg: 'HS256', kid: newer.id, ...header },
      { sub: String(mine), ...claims },
    ];
    const text = parts.map((one) => Buffer.from(JSON.stringify(one)).toString('base64url')).join('.');
    const hash = createHmac('sha256', Buffer.from(secret, 'hex')).update(text).digest('base64url');
    return `${text}.${hash}`;
  };
  const exp = Math.floor(Date.now() / 1_000) + 3_600;
  const good = signed({}, { exp });
  await expect.poll(async () => (await ask('GET', '/post/feed', { token: good })).status).toBe(200);
  const elsewhere = await served({ limits: UNLIMITED });
  // Databases of tests are copies of one, with its key.
  await rotateTokenKey(elsewhere.cluster.db, { revoke: true, dryRun: false });
  const bad = {
    'the old key under the new id': signed({}, { exp }, older.secret),
    'the new key under the old id': signed({ kid: older.id }, { exp }),
    'an id that objects inherit': signed({ kid: '__proto__' }, { exp }),
    'an id that is no text': signed({ kid: { id: newer.id } }, { exp }),
    'an id that is a path': signed({ kid: '../../dev/null' }, { exp }),
    'a critical header that is not known': signed({ crit: ['more'], more: 1 }, { exp }),
    'not valid yet': signed({}, { exp, nbf: exp - 60 }),
    'expired a second ago': signed({}, { exp: exp - 3_601 }),
    'an end that is no number': signed({}, { exp: String(exp) }),
    'no user': signed({}, { exp, sub: undefined }),
    'a role and no user': signed({}, { exp, sub: undefined, role: 'user' }),
    'no whole number': signed({}, { exp, sub: '1.5' }),
    'below zero': signed({}, { exp, sub: '-1' }),
    'above 2^53': signed({}, { exp, sub: '9007199254740993' }),
    'of another cluster': await elsewhere.tokenOf(mine),
  };
  for (const [what, one] of Object.entries(bad)) {
    const answer = await ask('GET', '/post/feed', { token: one });
    expect([what, answer.status, answer.body.code]).toEqual([what, 401, 'INVALID_TOKEN']);
    expect([what, await socketUser(at, `token=${one}`)]).toEqual([what, 401]);
    const admin = await ask('GET', '/admin/connections', { token: one });
    expect([what, admin.status]).toEqual([what, 401]);
  }
  expect((await ask('GET', '/post/feed', { token })).status, 'the key before is accepted').toBe(200);
});

test('an operator’s token lasts a minute', async () => {
  const { cluster } = await served();
  const claims = JSON.parse(
    String(Buffer.from((await signOperatorToken(cluster.db)).split('.')[1]!, 'base64url')),
  );
  expect(claims).toEqual({ role: 'operator', iat: expect.any(Number), exp: claims.iat + 60 });
});

test('a revoked key ends tokens of users and of operators, and sockets that they opened', async () => {
  const { at, cluster, ask, url, token } = await twoUsers();
  const operator = await signOperatorToken(cluster.db);
  const socket = await RawSocket.open(url, `token=${token}`);
  expect(socket.status).toBe(101);
  expect((await ask('GET', '/admin/connections', { token: operator })).status).toBe(200);
  await rotateTokenKey(cluster.db, { revoke: true, dryRun: false });
  await expect.poll(async () => (await ask('GET', '/post/feed', { token })).status).toBe(401);
  expect((await ask('GET', '/admin/connections', { token: operator })).status).toBe(401);
  expect(await socketUser(at, `token=${token}`)).toBe(401);
  expect(await socket.closed()).toBe(1012);
  const next = await signOperatorToken(cluster.db);
  expect((await ask('GET', '/admin/connections', { token: next })).status).toBe(200);
});
