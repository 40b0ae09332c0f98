import { expect, test } from 'vitest';
import { RabbitBus } from '../../src/engine/bus/rabbitmq/bus.ts';
import { firstIdAt } from '../../src/engine/model/ids.ts';
import { RowsMessage } from '../../src/engine/model/rowsMessage.ts';
import { freshVhost } from '../support/broker.ts';
import { feedctl, json, NOTHING_WRONG, sql, start, testRole } from '../support/cli.ts';
import { freshDatabase } from '../support/cluster.ts';
import { management } from '../support/rabbitmq.ts';
import { findServer } from '../support/server.ts';
import { canStream, startStreaming } from '../support/streaming.ts';

const server = await findServer('rabbitmq');

const TIMEOUT = { timeout: 180_000 };

function clusterAt(databaseUrl: string, brokerUrl: string) {
  const at = { env: { FEEDCTL_DATABASE_URL: databaseUrl, FEEDCTL_BROKER_URL: brokerUrl } };
  return {
    at,
    url: databaseUrl,
    run: (...args: string[]) => feedctl(args, at),
    json: <T = Record<string, unknown>>(...args: string[]) => json<T>(args, at),
    worker: () => testRole(['worker', 'start'], at),
    sql: <Row extends object>(text: string) => sql<Row>(databaseUrl, text),
    async people() {
      for (const id of ['1', '2']) await json(['user', 'create', `User${id}`, 'X', '--id', id], at);
      await json(['follow', 'create', '2', '1'], at);
    },
    post: async (text: string) => Number((await json<{ id: number }>(['post', 'create', '1', text], at)).id),
    async hasRow(postId: number): Promise<boolean> {
      return (await sql(databaseUrl, `select from feed_items where post_id = ${postId}`)).length === 1;
    },
    /** Waits until the feeds are as the posts and the follows say. */
    async whole(): Promise<void> {
      const verify = async () =>
        JSON.parse((await feedctl(['feed', 'verify', '--all', '--json'], at)).stdout) as object;
      await expect.poll(verify, { timeout: 60_000, interval: 500 }).toMatchObject(NOTHING_WRONG);
    },
  };
}

interface Operation {
  kind: string;
  state: string;
  runs: number;
}

test.skipIf(!server)(
  'two clusters with one broker URL: the second is refused, and no post is missing',
  TIMEOUT,
  async () => {
    const { url } = await freshVhost(server!);
    const prod = clusterAt((await freshDatabase()).url, url);
    const staging = clusterAt((await freshDatabase()).url, url);
    expect(await prod.json('migrate', '--partitions', '2')).toMatchObject({ partitions: 2 });
    await prod.people();
    const first = await prod.worker();
    const migrated = await staging.run('migrate', '--partitions', '2', '--json');
    expect(migrated.status).toBe(1);
    expect(JSON.parse(migrated.stdout)).toMatchObject({ error: { code: 'BROKER_OTHER_CLUSTER' } });
    const refused = start(['worker', 'start'], staging.at);
    const { status, stderr } = await refused.ended;
    expect(status).toBe(1);
    const ids = await Promise.all(
      [prod, staging].map(
        async (one) =>
          (await one.sql<{ cluster: string }>('select cluster from cluster_identity'))[0]!.cluster,
      ),
    );
    for (const id of ids) expect(stderr).toContain(id);
    const doctor = JSON.parse((await staging.run('doctor', '--json')).stdout) as {
      checks: { name: string }[];
    };
    expect(doctor.checks.map(({ name }) => name)).toContain('BROKER_OTHER_CLUSTER');
    first.child.kill('SIGTERM');
    await first.ended;
    await prod.worker();
    const posts: number[] = [];
    for (let i = 0; i < 10; i += 1) posts.push(await prod.post(`post ${i}`));
    for (const post of posts) await expect.poll(() => prod.hasRow(post), { timeout: 20_000 }).toBe(true);
    await prod.whole();
  },
);

test.skipIf(!server)(
  'a broker that was replaced by an empty one: lost messages are dispatched again',
  TIMEOUT,
  async () => {
    const { url, managementUrl } = await freshVhost(server!);
    const cluster = clusterAt((await freshDatabase()).url, url);
    await cluster.json('migrate', '--partitions', '2');
    await cluster.people();
    const first = await cluster.worker();
    await expect
      .poll(() => cluster.sql(`select from settings where name = 'feeds.complete'`))
      .toHaveLength(1);
    first.child.kill('SIGKILL');
    await first.ended;
    // Twenty thousand posts that are dispatched, and whose messages the broker has lost.
    const id = firstIdAt(Date.now() - 60_000);
    await cluster.sql(`
    with made as (
      insert into posts (author_id, id, body, created_at)
      select 1, ${id} + n, 'post ' || n, now() from generate_series(1, 20000) n returning id)
    insert into events (id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at)
    select id, 1, id, 'post.created', now(), '{"text": "x"}', now() from made`);
    const last = await cluster.post('the last one');
    const vhost = new URL(url).pathname.slice(1);
    await management(managementUrl, 'DELETE', `vhosts/${vhost}`);
    await management(managementUrl, 'PUT', `vhosts/${vhost}`);
    const killed = await cluster.worker();
    const progress = async () =>
      Number(
        (
          await cluster.sql<{ done: number | null }>(`select done from operations where kind = 'redispatch'`)
        )[0]?.done ?? 0,
      );
    await expect.poll(progress, { timeout: 30_000, interval: 5 }).toBeGreaterThan(0);
    killed.child.kill('SIGKILL');
    await killed.ended;
    await cluster.worker();
    await expect.poll(() => cluster.hasRow(last), { timeout: 60_000 }).toBe(true);
    await cluster.whole();
    const operations = await cluster.sql<Operation>(
      `select kind, state, runs from operations where kind = 'redispatch'`,
    );
    expect(operations).toEqual([{ kind: 'redispatch', state: 'done', runs: 2 }]);
    const doctor = JSON.parse((await cluster.run('doctor', '--json')).stdout) as { checks: object[] };
    expect(doctor.checks).toContainEqual({ name: 'lost messages', status: 'ok', detail: 'none known' });
  },
);

test.skipIf(!server || !canStream)(
  'a failover that loses commits: feeds have the posts that are left, and no other',
  TIMEOUT,
  async () => {
    const { url } = await freshVhost(server!);
    const pair = await startStreaming();
    const cluster = clusterAt(pair.url, url);
    await cluster.json('migrate', '--partitions', '2');
    await cluster.people();
    await cluster.worker();
    const early = await cluster.post('early');
    await expect.poll(() => cluster.hasRow(early), { timeout: 20_000 }).toBe(true);
    await cluster.json('fanout', 'pause', '--lane', 'all');
    const kept = await cluster.post('kept, and its row is lost');
    await pair.caughtUp();
    await pair.cutReplication();
    await cluster.json('fanout', 'resume', '--lane', 'all');
    await expect.poll(() => cluster.hasRow(kept), { timeout: 20_000 }).toBe(true);
    const lost = await cluster.post('lost with its row');
    await expect.poll(() => cluster.hasRow(lost), { timeout: 20_000 }).toBe(true);
    await cluster.json('fanout', 'pause', '--lane', 'all');
    const queued = await cluster.post('lost, and its event is in a queue');
    const planned = await cluster.post('lost, and its rows are in a queue');
    const bus = new RabbitBus(url, pair.url);
    const rows = new RowsMessage();
    rows.add(0, 2, { authorId: 1, postIds: [planned] });
    const body = rows.seal({ importId: 0, committedAt: Date.now() });
    for (const key of [0, 1]) await bus.publish([{ queue: 'rows.live', key, body }]);
    await bus.close();
    await pair.failOver();
    // The standby has the pause of before.
    await expect.poll(async () => (await cluster.run('fanout', 'resume', '--lane', 'all')).status).toBe(0);
    await expect.poll(() => cluster.hasRow(kept), { timeout: 60_000 }).toBe(true);
    const after = await cluster.post('after');
    await expect.poll(() => cluster.hasRow(after), { timeout: 60_000 }).toBe(true);
    await cluster.whole();
    const found = await cluster.sql<{ id: string }>(
      'select post_id as id from feed_items where user_id = 2 order by 1',
    );
    expect(found.map(({ id }) => Number(id))).toEqual([early, kept, after]);
    const posts = await cluster.sql(`select from posts where id in (${lost}, ${queued}, ${planned})`);
    expect(posts).toEqual([]);
    const empty = async () =>
      (
        await cluster.json<{ queues: { ready: number; unacked: number; deadLetters: number }[] }>(
          'queue',
          'list',
        )
      ).queues
        .map(({ ready, unacked, deadLetters }) => ready + unacked + deadLetters)
        .reduce((sum, one) => sum + one, 0);
    await expect.poll(empty, { timeout: 20_000 }).toBe(0);
    expect(await cluster.sql<Operation>('select kind, state from operations')).toContainEqual({
      kind: 'redispatch',
      state: 'done',
    });
  },
);
