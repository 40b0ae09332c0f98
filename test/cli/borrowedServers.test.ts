import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { freshVhost } from '../support/broker.ts';
import { feedctl, json, temporaryDirectory, testRole, waitUntil } from '../support/cli.ts';
import { freshDatabase } from '../support/cluster.ts';
import { management } from '../support/rabbitmq.ts';
import { startRedis } from '../support/redis.ts';
import { findServer } from '../support/server.ts';

const rabbitmq = await findServer('rabbitmq');
const redis = await findServer('redis');

const READ = ['bench', 'read', '--readers', '5', '--authors', '20', '--followees', '4', '--reads', '10'];
const SMALL = [...READ, '--mix', '20', '--posts', '2'];
const CROWD = ['--users', '20', '--friends', '2-5', '--stages', '2', '--seconds', '1', '--think-ms', '300'];

/** A broker and a cache for one test: their URLs, and what is on them. */
async function freshServers() {
  const broker = await freshVhost(rabbitmq!);
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const client = new Redis(server.url);
  onTestFinished(() => client.disconnect());
  const vhost = new URL(broker.url).pathname.slice(1);
  return {
    brokerUrl: broker.url,
    cacheUrl: server.url,
    keys: async () => (await client.keys('*')).sort(),
    async queues() {
      const found = await management(broker.managementUrl, 'GET', `queues/${vhost}`);
      const names = (found as { name: string }[]).map(({ name }) => name);
      // The probe of a running role has its queue for a moment.
      return names.filter((name) => !name.startsWith('feed.probe.')).sort();
    },
    async exchanges() {
      const found = await management(broker.managementUrl, 'GET', `exchanges/${vhost}`);
      return (found as { name: string }[]).filter(({ name }) => name.startsWith('feed.'));
    },
  };
}

/** A file with a URL, for flags that take no password. */
async function urlFile(url: string): Promise<string> {
  const path = join(await temporaryDirectory(), 'url');
  await writeFile(path, `${url}\n`);
  return path;
}

describe.skipIf(!rabbitmq || !redis)('demo and bench beside a cluster', () => {
  test('leave alone what a context and the environment name', { timeout: 300_000 }, async () => {
    const servers = await freshServers();
    const { url } = await freshDatabase();
    const directory = await temporaryDirectory();
    const production = {
      XDG_CONFIG_HOME: directory,
      PROD_BROKER: servers.brokerUrl,
      PROD_DATABASE: url,
    };
    const at = { env: production };
    const named = ['--database-url-env', 'PROD_DATABASE', '--broker-url-env', 'PROD_BROKER'];
    await json(['context', 'add', 'prod', ...named, '--cache-url', servers.cacheUrl, '--use'], at);
    await json(['migrate', '--partitions', '2'], at);
    for (const id of ['1', '2']) await json(['user', 'create', '--id', id], at);
    await json(['follow', 'create', '2', '1'], at);
    const worker = await testRole(['worker', 'start'], at);
    await json(['post', 'create', '1', 'first'], at);
    await waitUntil(async () => (await json(['feed', 'verify', '--all'], at)).missing === 0);
    worker.child.kill('SIGTERM');
    await worker.ended;
    // This event waits for the cluster's next worker.
    await json(['post', 'create', '1', 'second'], at);
    const before = [await servers.queues(), await servers.keys()];

    const environment = {
      FEEDCTL_DATABASE_URL: url,
      FEEDCTL_BROKER_URL: servers.brokerUrl,
      FEEDCTL_CACHE_URL: servers.cacheUrl,
    };
    const bench = await json<{ machine: object }>(['bench', 'crowd', ...CROWD], at);
    expect(bench.machine).toMatchObject({ bus: 'local', cache: 'memory' });
    const demo = await feedctl(['demo', '--json'], { env: { ...production, ...environment } });
    expect(demo.status, demo.stdout + demo.stderr).toBe(0);
    expect(demo.stderr).toContain('FEEDCTL_BROKER_URL is not used');
    expect([await servers.queues(), await servers.keys()]).toEqual(before);
    await testRole(['worker', 'start'], at);
    const bodies = async () =>
      (await json<{ items: { body: string }[] }>(['feed', 'show', '2'], at)).items.map(({ body }) => body);
    await waitUntil(async () => (await bodies()).length === 2);
    expect(await bodies()).toEqual(['second', 'first']);

    // Named by flags, the servers of the cluster are refused.
    const brokerFile = ['--broker-url-file', await urlFile(servers.brokerUrl)];
    for (const [args, what] of [
      [['demo', ...brokerFile], 'the queue feed.'],
      [['demo', '--cache-url', servers.cacheUrl], 'has keys of a cluster (feedctl:'],
      [[...SMALL, ...brokerFile], 'the queue feed.'],
      [[...SMALL, '--database-url-file', await urlFile(url)], 'the cluster has users'],
    ] as const) {
      const refused = await feedctl([...args, '--json'], { env: {} });
      expect(refused.status, refused.stderr).toBe(1);
      expect(JSON.parse(refused.stdout)).toMatchObject({
        error: { code: 'CLUSTER_NOT_EMPTY', message: expect.stringContaining(what) },
      });
    }
    expect(await servers.queues()).toEqual(before[0]);
    for (const args of [
      ['demo', '--context', 'prod'],
      ['demo', '--database-url', 'postgres://db/feeds'],
      ['bench', 'read', '--context=prod'],
    ])
      expect((await feedctl(args, at)).status, args.join(' ')).toBe(2);
  });

  test('use empty servers that flags name, and leave them empty', { timeout: 300_000 }, async () => {
    const servers = await freshServers();
    const named = ['--broker-url-file', await urlFile(servers.brokerUrl), '--cache-url', servers.cacheUrl];
    const demo = await feedctl(['demo', ...named, '--json'], {});
    expect(demo.status, demo.stdout + demo.stderr).toBe(0);
    const left = async () => [await servers.queues(), await servers.exchanges(), await servers.keys()];
    expect(await left()).toEqual([[], [], []]);
    const crowd = await json<{ machine: object }>(['bench', 'crowd', ...CROWD, ...named]);
    expect(crowd.machine).toMatchObject({ bus: 'RabbitMQ', cache: 'redis' });
    expect(await left()).toEqual([[], [], []]);

    // The database of an empty cluster may have declared the queues.
    const { url } = await freshDatabase();
    const env = { FEEDCTL_DATABASE_URL: url, FEEDCTL_BROKER_URL: servers.brokerUrl };
    await json(['migrate', '--partitions', '2'], { env });
    const declared = await servers.queues();
    expect(declared).toContain('feed.events.1');
    const other = await feedctl([...SMALL, ...named, '--json']);
    expect(JSON.parse(other.stdout)).toMatchObject({ error: { code: 'CLUSTER_NOT_EMPTY' } });
    await json([...SMALL, ...named, '--database-url-file', await urlFile(url)]);
    expect(await servers.queues()).toEqual(declared);
    expect(await servers.keys()).toEqual([]);
  });
});
