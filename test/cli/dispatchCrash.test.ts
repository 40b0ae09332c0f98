import { describe, expect, test } from 'vitest';
import { json, NOTHING_WRONG, testRole, waitUntil } from '../support/cli.ts';
import { file } from '../support/files.ts';
import { openProxy } from '../support/proxy.ts';
import {
  clientsOf,
  FOUNDATIONS,
  httpClient,
  type SpawnedCluster,
  spawnedCluster,
} from '../support/spawnedCluster.ts';

const POSTS = 5;
const ON_RABBITMQ = FOUNDATIONS[1];

/** A gateway with a channel to the broker, which has taken the first post. */
async function startVictim(cluster: SpawnedCluster, token: string) {
  const proxy = await openProxy(cluster.at.env.FEEDCTL_BROKER_URL!);
  const env = { ...cluster.at.env, FEEDCTL_BROKER_URL: proxy.url };
  const gateway = await testRole(['gateway', 'start', '--port', '0'], { env });
  const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
  const author = httpClient(gatewayUrl, token);
  await author.post('first');
  const postAndDie = () =>
    Array.from({ length: POSTS }, (_, i) => author.post(`${i}`).catch(() => 'no answer'));
  return { proxy, gateway, postAndDie };
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
    const token = await cluster.token(1);
    const victims = await Promise.all([startVictim(cluster, token), startVictim(cluster, token)]);
    const [unpublished, unnoted] = victims;
    // No worker runs yet, which would sweep.
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
    const [reader] = await clientsOf(gatewayUrl, ['2'], cluster.at);
    await waitUntil(async () => (await undispatched()) === 0);
    await expect.poll(() => reader!.feed()).toEqual(await newest());
    expect(await json(['feed', 'verify', '--all'], cluster.at)).toMatchObject(NOTHING_WRONG);
  });
});
