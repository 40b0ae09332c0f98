import { describe, expect, test } from 'vitest';
import { freshVhost } from '../support/broker.ts';
import { emptyDatabase, feedctl, json, type SpawnOptions, testRole } from '../support/cli.ts';
import { buildPreviousRelease, previousReleaseMissing } from '../support/previousRelease.ts';
import { findServer } from '../support/server.ts';
import { httpClient } from '../support/spawnedCluster.ts';

const servers = { rabbitmq: await findServer('rabbitmq'), redis: await findServer('redis') };
const missing = [
  previousReleaseMissing,
  !servers.rabbitmq && 'no RabbitMQ runs',
  !servers.redis && 'no Redis runs',
].filter(Boolean);
if (missing.length > 0) process.stderr.write(`\n*** TESTS SKIPPED: ${missing.join(', ')} ***\n`);

describe.skipIf(missing.length > 0)('an upgrade', () => {
  test('roles of the previous release work beside new ones, before and after the other is killed', async () => {
    const binary = await buildPreviousRelease();
    const env = {
      FEEDCTL_DATABASE_URL: await emptyDatabase('upgrade'),
      FEEDCTL_BROKER_URL: (await freshVhost(servers.rabbitmq!)).url,
      FEEDCTL_CACHE_URL: servers.redis!,
    };
    const [before, after]: SpawnOptions[] = [{ env, binary }, { env }];
    await json(['migrate', '--partitions', '2'], before);
    const gateways: string[] = [];
    const startRoles = async (at: SpawnOptions | undefined) => {
      const worker = await testRole(['worker', 'start'], at);
      const gateway = await testRole(['gateway', 'start', '--port', '0'], at);
      gateways.push((JSON.parse(gateway.stdout()) as { gatewayUrl: string }).gatewayUrl);
      return { worker, gateway };
    };
    const old = await startRoles(before);
    await json(['migrate'], after);
    const added = await startRoles(after);
    const [author, reader] = await Promise.all(
      [1, 2].map(async () => (await json<{ id: number }>(['user', 'create', 'Some', 'Name'], after)).id),
    );
    await json(['follow', 'create', String(reader), String(author)], after);
    const token = async (id: number | undefined) =>
      (await json<{ token: string }>(['user', 'token', String(id)], after)).token;
    const [authors, readers] = await Promise.all([token(author), token(reader)]);
    const posted: string[] = [];
    const post = async (at: string) => void posted.unshift(await httpClient(at, authors).post('text'));
    const feeds = async () => {
      const pages = gateways.map(
        async (at) => (await httpClient(at, readers).call('GET', '/post/feed')).body,
      );
      return (await Promise.all(pages)).map((page) => (page as { id: string }[]).map(({ id }) => id));
    };
    const round = async () => {
      for (const at of [...gateways, ...gateways]) await post(at);
      await expect.poll(feeds, { timeout: 60_000 }).toEqual(gateways.map(() => posted));
    };
    await round();
    old.worker.child.kill('SIGKILL');
    await round();
    // The old version may start again only where its own check of the schema lets it; a running one goes on.
    added.worker.child.kill('SIGKILL');
    await testRole(['worker', 'start'], after);
    await round();
    old.gateway.child.kill('SIGTERM');
    await old.gateway.ended;
    gateways.shift();
    await round();
    expect((await feedctl(['feed', 'verify', '--all', '--json'], after)).status).toBe(0);
  }, 300_000);
});
