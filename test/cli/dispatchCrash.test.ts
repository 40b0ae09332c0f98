import { describe, expect, test } from 'vitest';
import { json, NOTHING_WRONG, testRole, waitUntil } from '../support/cli.ts';
import { file } from '../support/files.ts';
import { openProxy } from '../support/proxy.ts';
import { FOUNDATIONS, httpClient, type SpawnedCluster, spawnedCluster } from '../support/spawnedCluster.ts';

const POSTS = 5;
const ON_RABBITMQ = FOUNDATIONS[1];

/** A gateway that a proxy keeps from the broker when a test says so. */
async function startVictim(cluster: SpawnedCluster, token: string) {
  const proxy = await openProxy(cluster.at.env.FEEDCTL_BROKER_URL!);
  // Heartbeats would end a connection that is cut off, and on a busy machine the test takes longer.
  const env = { ...cluster.at.env, FEEDCTL_BROKER_URL: `${proxy.url}?heartbeat=0` };
  const gateway = await testRole(['gateway', 'start', '--port', '0'], { env });
  const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
  const author = httpClient(gatewayUrl, token);
  const postAndDie = () =>
    Array.from({ length: POSTS }, (_, i) => author.post(`${i}`).catch(() => 'no answer'));
  return { proxy, gateway, author, postAndDie };
}

describe.skipIf(ON_RABBITMQ.missing)('kill -9 of a gateway with RabbitMQ', () => {
  test('loses no post between its commit, its publication and the note of it', {
    timeout: 180_000,
  }, async () => {
    const cluster = await spawnedCluster(ON_RABBITMQ);
    await cluster.json('seed', 'graph', await file('2 1\n'));
    const undispatched = async () =>
      (await cluster.sql('select 1 from events where dispatched_at is null')).length;
    const newest = async () =>
      (await cluster.sql<{ id: string }>('select id from posts order by id desc')).map(({ id }) => id);
    const published = async () => {
      const { queues } = await cluster.json<{ queues: { queue: string; ready: number }[] }>('queue', 'list');
      return queues.find(({ queue }) => queue === 'events')!.ready;
    };
    const [token, readers] = await Promise.all([cluster.token(1), cluster.token(2)]);
    const victims = await Promise.all([startVictim(cluster, token), startVictim(cluster, token)]);
    // Otherwise the first worker with a broker dispatches every event again, and the sweeper finds none.
    await cluster.sql(
      `update settings set value = value || jsonb_build_object('lineage', i.lineage)
       from cluster_identity i where name = 'feeds.complete'`,
    );
    // The first post opens the channel of the others.
    for (const { author } of victims) await author.post('first');
    const [unpublished, unnoted] = victims;
    expect(await undispatched()).toBe(0);
    unpublished.proxy.strand();
    unnoted.proxy.stall();
    const answers = victims.flatMap((victim) => victim.postAndDie());
    await waitUntil(async () => (await newest()).length === 2 + 2 * POSTS);
    await expect.poll(published).toBe(2 + POSTS);
    expect(await undispatched()).toBe(2 * POSTS);
    for (const { gateway } of victims) gateway.child.kill('SIGKILL');
    expect(await Promise.all(answers)).toEqual(answers.map(() => 'no answer'));

    const [{ gatewayUrl }] = await Promise.all([cluster.gateway(), cluster.worker()]);
    await expect.poll(undispatched).toBe(0);
    await expect.poll(() => httpClient(gatewayUrl, readers).feed()).toEqual(await newest());
    expect(await json(['feed', 'verify', '--all'], cluster.at)).toMatchObject(NOTHING_WRONG);
  });
});
