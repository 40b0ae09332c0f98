import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Running, startRole, testRole, waitUntil } from '../support/cli.ts';
import { FeedClient } from '../support/feedClient.ts';
import { openProxy } from '../support/proxy.ts';
import {
  EVERY_FOUNDATION,
  FOUNDATIONS,
  httpClient,
  type SpawnedCluster,
  spawnedCluster,
} from '../support/spawnedCluster.ts';

const AUTHOR = 1;
const READERS = [2, 3, 4, 5];

interface GatewayRole {
  readonly role: Running;
  readonly url: string;
}

/** A worker, two gateways, an author with followers, and a post that their clients at both gateways show. */
async function started(cluster: SpawnedCluster, brokerUrlOfFirst?: string) {
  const { at, json } = cluster;
  for (const id of [AUTHOR, ...READERS]) await json('user', 'create', '--id', String(id));
  for (const id of READERS) await json('follow', 'create', String(id), String(AUTHOR));
  const worker = await testRole(['worker', 'start'], at);
  const gateway = async (env = {}): Promise<GatewayRole> => {
    const role = await testRole(['gateway', 'start', '--port', '0'], { ...at, env: { ...at.env, ...env } });
    const { gatewayUrl } = JSON.parse(role.stdout()) as { gatewayUrl: string };
    return { role, url: gatewayUrl };
  };
  const first = await gateway(brokerUrlOfFirst && { FEEDCTL_BROKER_URL: brokerUrlOfFirst });
  const second = await gateway();
  const token = await cluster.token(AUTHOR);
  const postId = Number(await httpClient(first.url, token).post('the first text'));
  const clients = await Promise.all(
    READERS.map(async (id, i) => {
      const client = new FeedClient(id, await cluster.token(id));
      onTestFinished(() => client.stop());
      // From the beginning of the feed.
      await client.open([first, second][i % 2]!.url, String(postId));
      return client;
    }),
  );
  const shown = () => clients.map(({ texts }) => texts.get(postId));
  for (const client of clients) await expect.poll(() => client.posts).toEqual([postId]);
  const edit = async (url: string, text: string) => {
    const body = { id: String(postId), text };
    return (await httpClient(url, token).call('PUT', '/post/update', body)).status;
  };
  const textOf = async (url: string) =>
    ((await httpClient(url, token).call('GET', `/post/get/${postId}`)).body as { text: string }).text;
  return { worker, gateway, first, second, clients, shown, edit, textOf };
}

const kill = async (role: Running) => {
  role.child.kill('SIGKILL');
  await role.ended;
};

const foundations = FOUNDATIONS.filter(({ broker, citus }) => broker || (EVERY_FOUNDATION && !citus));

describe.each(foundations)('on $name', (foundation) => {
  test.skipIf(foundation.missing)(
    'an edit reaches the sockets although its gateway is killed after the commit',
    { timeout: 120_000 },
    async () => {
      const cluster = await spawnedCluster(foundation);
      const broker = cluster.at.env.FEEDCTL_BROKER_URL;
      const proxy = broker === undefined ? undefined : await openProxy(broker);
      const behind = new URL(broker ?? 'amqp://none');
      if (proxy) {
        behind.hostname = '127.0.0.1';
        behind.port = new URL(proxy.url).port;
      }
      const { first, second, clients, edit, textOf } = await started(cluster, broker && behind.href);
      const client = new pg.Client({ connectionString: cluster.url });
      await client.connect();
      onTestFinished(() => client.end());
      // The bus takes nothing from the first gateway from now on.
      if (proxy) proxy.cut();
      else await client.query('begin; lock table bus.messages in share row exclusive mode');
      const asked = edit(first.url, 'committed, then killed').catch(() => 'no answer');
      const left = async () =>
        await cluster.sql(`select 1 from events where type = 'post.updated' and dispatched_at is null`);
      await waitUntil(async () => (await left()).length === 1);
      await kill(first.role);
      await asked;
      await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'
           and query like '%insert into bus.messages%'`,
      );
      if (!proxy) await client.query('rollback');
      expect(await textOf(second.url)).toBe('committed, then killed');
      for (const { texts } of [clients[1]!, clients[3]!])
        await expect.poll(() => [...texts.values()], { timeout: 60_000 }).toEqual(['committed, then killed']);
      // The others come back without the frame, and read the text.
      await clients[0]!.open(second.url);
      expect(clients[0]!.hellos.at(-1)!.payload.recovered).toBe(true);
      expect((await left()).length).toBe(0);
    },
  );

  test.skipIf(foundation.missing)(
    'edits reach the sockets although workers are killed with them, and the last text stays',
    { timeout: 240_000 },
    async () => {
      const cluster = await spawnedCluster(foundation);
      const { worker, first, second, shown, edit, textOf } = await started(cluster);
      // A stopped worker holds the event, or has not taken it.
      worker.child.kill('SIGSTOP');
      expect(await edit(first.url, 'with a stopped worker')).toBe(200);
      await kill(worker);
      expect(new Set(shown())).toEqual(new Set(['the first text']));
      let current = await startRole(['worker', 'start'], cluster.at);
      onTestFinished(() => kill(current));
      await expect.poll(shown, { timeout: 60_000 }).toEqual(READERS.map(() => 'with a stopped worker'));

      let editing = true;
      let edits = 0;
      const done = Promise.all(
        [first, second].map(async ({ url }) => {
          while (editing) {
            edits += 1;
            expect(await edit(url, `edit ${edits}`)).toBe(200);
          }
        }),
      );
      for (let round = 0; round < 3; round += 1) {
        const before = edits;
        await waitUntil(() => edits > before + 20);
        await sleep(Math.random() * 300);
        await kill(current);
        current = await startRole(['worker', 'start'], cluster.at);
      }
      editing = false;
      await done;
      const last = await textOf(first.url);
      await expect.poll(shown, { timeout: 60_000 }).toEqual(READERS.map(() => last));
      const letters = await cluster.json<{ total: number }>('dlq', 'list');
      expect(letters.total).toBe(0);
    },
  );
});
