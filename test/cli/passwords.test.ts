import { mkdir, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Database } from '../../src/engine/database/database.ts';
import { freshVhost } from '../support/broker.ts';
import { feedctl, json, temporaryDirectory, testRole } from '../support/cli.ts';
import { management } from '../support/rabbitmq.ts';
import { startRedis } from '../support/redis.ts';
import { findServer } from '../support/server.ts';
import { clientsOf } from '../support/spawnedCluster.ts';
import { startReplicated } from '../support/standby.ts';
import { UNLIMITED } from '../support/unlimited.ts';

const SECONDS = { timeout: 30_000 };
const broker = await findServer('rabbitmq');
const redisServer = await findServer('redis');

/** A directory as Kubernetes mounts a Secret: `..data` is replaced in one step. */
async function mountedSecret() {
  const directory = await temporaryDirectory();
  let version = 0;
  let content: Record<string, string> = {};
  const set = async (changes: Record<string, string>) => {
    content = { ...content, ...changes };
    version += 1;
    const next = `..${version}`;
    await mkdir(join(directory, next));
    for (const [name, text] of Object.entries(content)) {
      await writeFile(join(directory, next, name), text);
      if (version === 1) await symlink(`..data/${name}`, join(directory, name));
    }
    await symlink(next, join(directory, '..new'));
    await rename(join(directory, '..new'), join(directory, '..data'));
  };
  return { set, file: (name: string) => join(directory, name) };
}

describe.skipIf(!broker || !redisServer)('passwords that change while roles run', () => {
  test('are taken from the mounted files for new connections, without a restart', async () => {
    const secret = await mountedSecret();
    const { primary, standby } = await startReplicated();
    const admin = new Database(primary.url);
    onTestFinished(() => admin.close());
    await admin.query(`create role app login password 'one'`);
    await admin.query('alter database feedctl owner to app');
    const databaseUrl = (password: string, name = 'feedctl') =>
      `postgres://app:${password}@${standby.address},${primary.address}/${name}`;

    const { url: vhostUrl, managementUrl } = await freshVhost(broker!);
    const vhost = new URL(vhostUrl);
    const user = `app_${vhost.pathname.slice(1)}`;
    const setBrokerPassword = (password: string) =>
      management(managementUrl, 'PUT', `users/${user}`, { password, tags: '' });
    await setBrokerPassword('one');
    onTestFinished(async () => {
      await management(managementUrl, 'DELETE', `users/${user}`);
    });
    const all = { configure: '.*', write: '.*', read: '.*' };
    await management(managementUrl, 'PUT', `permissions${vhost.pathname}/${user}`, all);
    const brokerUrl = (password: string) =>
      Object.assign(new URL(vhostUrl), { username: user, password }).href;

    const server = await startRedis(['--requirepass', 'one']);
    onTestFinished(() => server.stop());
    const cacheUrl = (password: string) => server.url.replace('://', `://:${password}@`);
    const redis = new Redis(cacheUrl('one'));
    onTestFinished(() => redis.disconnect());

    await secret.set({ database: databaseUrl('one'), broker: brokerUrl('one'), cache: cacheUrl('one') });
    const at = {
      env: {
        ...UNLIMITED,
        FEEDCTL_DATABASE_URL_FILE: secret.file('database'),
        FEEDCTL_BROKER_URL_FILE: secret.file('broker'),
        FEEDCTL_CACHE_URL_FILE: secret.file('cache'),
      },
    };
    await json(['migrate', '--partitions', '2'], at);
    for (const id of ['1', '2']) await json(['user', 'create', '--id', id], at);
    await json(['follow', 'create', '2', '1'], at);
    const worker = await testRole(['worker', 'start'], at);
    const gateway = await testRole(['gateway', 'start', '--port', '0'], at);
    const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
    const [author, reader] = await clientsOf(gatewayUrl, ['1', '2'], at);
    const posts: string[] = [];
    const post = async () => {
      const { status, body } = await author!.call('POST', '/post/create', { text: 'here' });
      if (status === 201) posts.push((body as { id: string }).id);
      return status;
    };
    const delivered = () => expect.poll(() => reader!.feed(), SECONDS).toEqual(expect.arrayContaining(posts));
    expect(await post()).toBe(201);
    await delivered();

    // Open connections stay.
    await admin.query(`alter role app password 'two'`);
    await setBrokerPassword('two');
    await redis.config('SET', 'requirepass', 'two');
    expect(await post()).toBe(201);
    await delivered();

    await secret.set({ database: databaseUrl('two'), broker: brokerUrl('two'), cache: cacheUrl('two') });
    const endSessions = () =>
      admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'`);
    const cached = async () =>
      [...String(await redis.call('CLIENT', 'LIST')).matchAll(/ name=(feedctl\S*)/g)].map(([, name]) => name);
    const before = await cached();
    expect(before.length).toBeGreaterThanOrEqual(2);
    await endSessions();
    await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    const connections = async () =>
      (await management(managementUrl, 'GET', `vhosts${vhost.pathname}/connections`)) as { name: string }[];
    await expect.poll(async () => (await connections()).length, SECONDS).toBeGreaterThanOrEqual(4);
    for (const { name } of await connections())
      await management(managementUrl, 'DELETE', `connections/${encodeURIComponent(name)}`);
    await expect.poll(post, SECONDS).toBe(201);
    await delivered();
    // Redis names a connection only after it has accepted its password.
    await expect.poll(cached, SECONDS).toEqual(before);
    for (const role of [worker, gateway])
      await expect.poll(() => role.stderr(), SECONDS).toContain('broker connected again');
    await expect.poll(async () => (await fetch(`${gatewayUrl}/readyz`)).status, SECONDS).toBe(200);

    // Another database may be another cluster.
    await secret.set({ database: databaseUrl('two', 'postgres') });
    // A URL that is younger than 2 s is not read again.
    const logged = async () => {
      await endSessions();
      return gateway.stderr();
    };
    await expect.poll(logged, SECONDS).toContain('the source now names another database');
    await expect.poll(post, SECONDS).toBe(201);
    await delivered();
    expect(gateway.stderr() + worker.stderr()).not.toMatch(/app:(one|two)@/);
    expect([worker.child.exitCode, gateway.child.exitCode]).toEqual([null, null]);
  }, 180_000);
});

test('a variable and the variable of its file exclude each other', async () => {
  const env = {
    FEEDCTL_DATABASE_URL: 'postgres://app:hunter2@db/feeds',
    FEEDCTL_DATABASE_URL_FILE: '/secret/database',
  };
  const refused = await feedctl(['status'], { env });
  expect(refused.stderr).toContain('FEEDCTL_DATABASE_URL and FEEDCTL_DATABASE_URL_FILE are both set');
  expect(refused.stderr).not.toContain('hunter2');
});
