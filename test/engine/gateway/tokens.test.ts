import { createSecretKey } from 'node:crypto';
import { SignJWT, UnsecuredJWT } from 'jose';
import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { openTokens, rotateTokenKey, signToken } from '../../../src/engine/gateway/tokens.ts';
import { readTokenKeys } from '../../../src/engine/store/tokenKeys.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { openProxy } from '../../support/proxy.ts';
import { served } from './served.ts';

const secret = (hex: string) => createSecretKey(Buffer.from(hex, 'hex'));

test('no token is accepted but one of the cluster’s own keys', async () => {
  const { cluster, ask } = await served();
  const [user] = (await cluster.users(1)) as [number];
  const key = (await readTokenKeys(cluster.db))[0]!;
  const token = (header: Record<string, string> = {}, lifetime = '1h') =>
    new SignJWT()
      .setProtectedHeader({ alg: 'HS256', kid: key.id, ...header })
      .setSubject(String(user))
      .setExpirationTime(lifetime);
  const good = await token().sign(secret(key.secret));
  const [header, payload, signature] = good.split('.') as [string, string, string];
  const named = (kid: string) => Buffer.from(JSON.stringify({ alg: 'none', kid })).toString('base64url');
  const foreign = Buffer.from('{"sub":"1","exp":9999999999}').toString('base64url');
  const forged = {
    expired: await token({}, '-1s').sign(secret(key.secret)),
    'of another key': await token().sign(secret('00'.repeat(32))),
    'of an unknown key': await token({ kid: 'unknown' }).sign(secret(key.secret)),
    'of another algorithm': await token({ alg: 'HS512' }).sign(secret(key.secret)),
    'of no algorithm': new UnsecuredJWT({ sub: String(user) }).setExpirationTime('1h').encode(),
    'of no algorithm, signed': `${named(key.id)}.${payload}.${signature}`,
    'of no algorithm, unsigned': `${named(key.id)}.${payload}.`,
    'without a signature': `${header}.${payload}.`,
    'of somebody else': `${header}.${foreign}.${signature}`,
    'for ever': await new SignJWT()
      .setProtectedHeader({ alg: 'HS256', kid: key.id })
      .setSubject(String(user))
      .sign(secret(key.secret)),
    'of nobody': await new SignJWT()
      .setProtectedHeader({ alg: 'HS256', kid: key.id })
      .setSubject('0')
      .setExpirationTime('1h')
      .sign(secret(key.secret)),
    'of nothing': '..',
    'with more': `${good}x`,
  };
  for (const [name, one] of Object.entries(forged))
    expect(await ask('GET', '/post/feed', { token: one }), name).toMatchObject({
      status: 401,
      body: { code: 'INVALID_TOKEN' },
    });
  expect((await ask('GET', '/post/feed', { token: good })).status).toBe(200);
  expect((await ask('GET', '/post/feed', { headers: { authorization: `Basic ${good}` } })).status).toBe(401);
});

test('a token that was signed before keys had ids is good until the first key goes', async () => {
  const { db } = await freshDatabase();
  const key = (await readTokenKeys(db))[0]!;
  const old = await new SignJWT()
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('7')
    .setExpirationTime('1h')
    .sign(secret(key.secret));
  const tokens = await openTokens(db);
  expect(await tokens.check(old)).toBe(7);
  await rotateTokenKey(db, { revoke: true, dryRun: false });
  await tokens.refresh();
  expect(await rejection(tokens.check(old))).toMatchObject({ code: 'INVALID_TOKEN' });
});

test('a rotated key signs at once, those before it are accepted as long as their tokens last, or revoked', async () => {
  const { db } = await freshDatabase();
  const [here, there] = [await openTokens(db), await openTokens(db)];
  const first = await here.sign(1);
  expect(await rotateTokenKey(db, { revoke: true, dryRun: true })).toMatchObject({
    keyId: null,
    revoked: ['0'],
  });
  expect(await readTokenKeys(db)).toHaveLength(1);
  const second = await rotateTokenKey(db, { revoke: false, dryRun: false });
  const lasts = Date.parse(second.accepted[0]!.until) - Date.now();
  expect(lasts).toBeGreaterThan(11.9 * 3_600_000);
  expect(second).toMatchObject({ accepted: [{ keyId: '0' }], revoked: [] });
  const newer = await signToken(db, 2);
  expect(JSON.parse(String(Buffer.from(newer.split('.')[0]!, 'base64url')))).toMatchObject({
    kid: second.keyId,
  });
  // A gateway reads an unknown key when a token names it, at most once a second.
  await expect.poll(() => there.check(newer).catch(() => 0)).toBe(2);
  expect(await there.check(first)).toBe(1);
  const third = await rotateTokenKey(db, { revoke: true, dryRun: false });
  expect(new Set(third.revoked)).toEqual(new Set(['0', second.keyId]));
  await there.refresh();
  for (const token of [first, newer])
    expect(await rejection(there.check(token))).toMatchObject({ code: 'INVALID_TOKEN' });
  expect(await there.check(await signToken(db, 3))).toBe(3);
});

test('two who rotate at once lose no key', async () => {
  const { db } = await freshDatabase();
  const rotations = await Promise.all(
    Array.from({ length: 5 }, () => rotateTokenKey(db, { revoke: false, dryRun: false })),
  );
  const ids = (await readTokenKeys(db)).map((key) => key.id);
  expect(new Set(ids)).toEqual(new Set(['0', ...rotations.map((one) => one.keyId)]));
});

test('tokens need no database', async () => {
  const { url, db } = await freshDatabase();
  const proxy = await openProxy(url);
  const through = new Database(proxy.url);
  onTestFinished(() => through.close());
  const tokens = await openTokens(through);
  proxy.cut();
  expect(await tokens.check(await signToken(db, 5))).toBe(5);
  const forged = await new SignJWT()
    .setProtectedHeader({ alg: 'HS256', kid: '0' })
    .setSubject('5')
    .setExpirationTime('1h')
    .sign(secret('00'.repeat(32)));
  expect(await rejection(tokens.check(forged))).toMatchObject({ code: 'INVALID_TOKEN' });
});
