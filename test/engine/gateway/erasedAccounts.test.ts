import { createSecretKey } from 'node:crypto';
import { SignJWT } from 'jose';
import { expect, onTestFinished, test } from 'vitest';
import { eraseUser } from '../../../src/engine/erasure/eraseUser.ts';
import { openTokens, signToken } from '../../../src/engine/gateway/tokens.ts';
import { createUser } from '../../../src/engine/social/users.ts';
import { readTokenKeys } from '../../../src/engine/store/tokenKeys.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { served } from './served.ts';

/** Signs a token as a version that knew no accounts did. */
async function oldToken({ db }: TestCluster, userId: number): Promise<string> {
  const key = (await readTokenKeys(db)).at(-1)!;
  return new SignJWT({ sub: String(userId) })
    .setProtectedHeader({ alg: 'HS256', kid: key.id })
    .setIssuedAt()
    .setExpirationTime('12h')
    .sign(createSecretKey(Buffer.from(key.secret, 'hex')));
}

async function erase(cluster: TestCluster, userId: number): Promise<void> {
  const { db, bus, changes } = cluster;
  await eraseUser({ db, bus, changes, sharedCache: undefined }, userId);
}

test('a token of an erased account does not work for the next owner of its id, at any gateway', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const here = await served({ limits: UNLIMITED }, cluster);
  const [stays] = (await cluster.users(1)) as [number];
  const { id } = await createUser(cluster, {});
  const before = { signed: await here.tokenOf(id), old: await oldToken(cluster, id) };
  const others = { signed: await here.tokenOf(stays), old: await oldToken(cluster, stays) };
  // The gateway knows the tokens from now on.
  for (const token of [...Object.values(before), ...Object.values(others)])
    expect((await here.ask('GET', '/post/feed', { token })).status).toBe(200);

  await erase(cluster, id);
  await createUser(cluster, { id });
  const next = await here.tokenOf(id);
  const there = await served({ limits: UNLIMITED }, cluster);
  for (const { ask } of [here, there]) {
    const calls = (token: string) => [
      ask('GET', '/post/feed', { token }),
      ask('POST', '/post/create', { token, body: { text: 'mine' } }),
      ask('PUT', `/friend/set/${stays}`, { token }),
      ask('POST', '/ticket', { token }),
    ];
    for (const [name, token] of Object.entries(before))
      for (const call of calls(token))
        expect(await call, name).toMatchObject({ status: 404, body: { code: 'USER_NOT_FOUND' } });
    for (const call of calls(next)) expect((await call).status).toBeLessThan(300);
    for (const token of Object.values(others))
      expect((await ask('GET', '/post/feed', { token })).status).toBe(200);
  }
  const socketOf = async (url: string, token: string) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/post/feed/posted?token=${token}`);
    onTestFinished(() => socket.close());
    return new Promise((resolve) => {
      socket.onopen = () => resolve('open');
      socket.onerror = () => resolve('refused');
    });
  };
  for (const { url } of [here, there]) {
    expect(await socketOf(url, before.signed)).toBe('refused');
    expect(await socketOf(url, next)).toBe('open');
  }
});

test('each owner of an id has tokens of their own, and a gateway that missed an announcement learns of it', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const tokens = await openTokens(cluster.db);
  const { id } = await createUser(cluster, {});
  const owners: string[] = [];
  for (let erasures = 0; erasures < 3; erasures += 1) {
    const token = await signToken(cluster.db, id);
    expect(await tokens.check(token)).toBe(id);
    owners.push(token);
    await erase(cluster, id);
    await createUser(cluster, { id });
    await tokens.refresh();
    for (const earlier of owners)
      expect(await rejection(tokens.check(earlier))).toMatchObject({ code: 'USER_NOT_FOUND' });
  }
  expect(await tokens.check(await signToken(cluster.db, id))).toBe(id);
});

test('an erasure that was interrupted after it removed the account counts, one before that does not', async () => {
  const cluster = await testCluster();
  const tokens = await openTokens(cluster.db);
  const [gone, stays] = (await cluster.users(2)) as [number, number];
  const [ofGone, ofStays] = [await signToken(cluster.db, gone), await signToken(cluster.db, stays)];
  const begin = (id: number, steps: string[]) =>
    cluster.db.query(
      `insert into operations (kind, key, state, progress) values ('user erase', $1, 'running', $2)`,
      [String(id), JSON.stringify({ steps })],
    );
  await begin(stays, []);
  await begin(gone, ['user']);
  await tokens.refresh();
  expect(await rejection(tokens.check(ofGone))).toMatchObject({ code: 'USER_NOT_FOUND' });
  expect(await tokens.check(ofStays)).toBe(stays);
  // It goes on: the gateway still reads an operation that was not done.
  await cluster.db.query(`update operations set progress = '{"steps":["user"]}' where key = $1`, [
    String(stays),
  ]);
  await tokens.refresh();
  expect(await rejection(tokens.check(ofStays))).toMatchObject({ code: 'USER_NOT_FOUND' });
});
