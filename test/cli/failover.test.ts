import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../src/engine/database/database.ts';
import { feedctl, json, testRole } from '../support/cli.ts';
import { clientsOf } from '../support/spawnedCluster.ts';
import { startReplicated } from '../support/standby.ts';
import { UNLIMITED } from '../support/unlimited.ts';

const SECONDS = { timeout: 30_000 };

test('roles whose URL names a primary and its standby go on after a failover without a restart', async () => {
  const { primary, standby } = await startReplicated();
  const hosts = `postgres://feedctl@${standby.address},${primary.address}/feedctl`;
  const at = { env: { ...UNLIMITED, FEEDCTL_DATABASE_URL: hosts } };
  await json(['migrate'], at);
  for (const id of ['1', '2']) await json(['user', 'create', '--id', id], at);
  await json(['follow', 'create', '2', '1'], at);

  const any = { env: { ...at.env, FEEDCTL_DATABASE_URL: `${hosts}?target_session_attrs=any` } };
  const refused = await feedctl(['worker', 'start'], any);
  expect(refused).toMatchObject({ status: 1 });
  expect(refused.stderr).toContain('DATABASE_READ_ONLY');
  expect(refused.stderr).toContain('target_session_attrs');

  const worker = await testRole(['worker', 'start', '--metrics-port', '0'], at);
  const gateway = await testRole(['gateway', 'start', '--port', '0'], at);
  const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
  const { metricsUrl } = JSON.parse(worker.stdout()) as { metricsUrl: string };
  const [author, reader] = await clientsOf(gatewayUrl, ['1', '2'], at);
  const posts: string[] = [];
  const post = async () => {
    const { status, body } = await author!.call('POST', '/post/create', { text: `post ${posts.length}` });
    if (status === 201) posts.push((body as { id: string }).id);
    return status;
  };
  for (let i = 0; i < 5; i += 1) expect(await post()).toBe(201);
  await primary.kill();
  expect(await post()).toBe(503);
  const promoting = new Database(standby.url);
  onTestFinished(() => promoting.close());
  await promoting.query('select pg_promote()');
  await expect.poll(post, SECONDS).toBe(201);
  for (let i = 0; i < 5; i += 1) expect(await post()).toBe(201);
  await expect.poll(() => reader!.feed(), SECONDS).toEqual(expect.arrayContaining(posts));
  for (const role of [gatewayUrl, metricsUrl])
    await expect.poll(async () => (await fetch(`${role}/readyz`)).status, SECONDS).toBe(200);
  expect([worker.child.exitCode, gateway.child.exitCode]).toEqual([null, null]);
  expect(await json(['feed', 'verify', '--all'], at)).toMatchObject({ mismatched: 0, missing: 0 });
  expect(await json(['doctor'], at)).toMatchObject({ ok: true });
}, 180_000);
