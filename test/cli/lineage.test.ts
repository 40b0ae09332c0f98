import { execFileSync } from 'node:child_process';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  feedctl,
  json,
  NOTHING_WRONG,
  postgresOf,
  type Running,
  type SpawnOptions,
  sql,
  temporaryDirectory,
  testRole,
  type UpCluster,
  up,
  waitUntil,
} from '../support/cli.ts';
import { openProxy } from '../support/proxy.ts';
import { redis, startRedis } from '../support/redis.ts';
import { noReplicas, startReplica } from '../support/replicas.ts';
import { httpClient } from '../support/spawnedCluster.ts';

const UNLIMITED = Object.fromEntries(
  ['USER', 'USER_WRITE', 'IP', 'IP_UNAUTHENTICATED'].map((name) => [`FEEDCTL_${name}_LIMIT`, '0']),
);

async function privateRedis(): Promise<string> {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  return server.url;
}

const userOf = (options: SpawnOptions, gatewayUrl: string) => async (id: number) => {
  const { token } = await json<{ token: string }>(['user', 'token', String(id)], options);
  return httpClient(gatewayUrl, token);
};

describe.skipIf(!redis.installed() || noReplicas)('a failover under running processes', () => {
  test('lost posts leave the feeds, and new posts, deletions and unfollows reach them', {
    timeout: 180_000,
  }, async () => {
    const primary = await startReplica();
    const proxy = await openProxy(primary.url);
    const at = {
      env: {
        ...UNLIMITED,
        FEEDCTL_DATABASE_URL: proxy.url,
        FEEDCTL_CACHE_URL: await privateRedis(),
      },
    };
    await json(['migrate'], at);
    const standby = await primary.standby();
    await testRole(['worker', 'start'], at);
    const gateway = await testRole(['gateway', 'start', '--port', '0'], at);
    const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
    await primary.sql('insert into users (id) select generate_series(1, 3)');
    const user = userOf(at, gatewayUrl);
    const [author, reader, other] = [await user(1), await user(2), await user(3)];
    for (const id of [1, 3]) expect((await reader.call('PUT', `/friend/set/${id}`)).status).toBe(200);
    const kept = await author.post('kept');
    const deleted = await author.post('deleted later');
    const unfollowed = await other.post('of an author who is unfollowed later');
    await expect.poll(() => reader.feed()).toEqual([unfollowed, deleted, kept]);
    await expect.poll(async () => (await standby.sql('select from feed_items')).length).toBe(3);

    await standby.sql(`alter system set primary_conninfo = ''`);
    await standby.sql('select pg_reload_conf()');
    await expect.poll(() => primary.sql('select from pg_stat_replication')).toEqual([]);
    const lost = await author.post('lost');
    await expect.poll(() => reader.feed()).toEqual([lost, unfollowed, deleted, kept]);

    await primary.stop('immediate');
    await standby.sql('select pg_promote()');
    proxy.leadTo(standby.url);
    const promotedAt = Date.now();
    await expect
      .poll(() => gateway.stderr(), { timeout: 20_000 })
      .toMatch(/the database has another history/);
    const line = gateway
      .stderr()
      .split('\n')
      .find((one) => one.includes('another history'))!;
    const entry = JSON.parse(line) as { time: number; before: string };
    expect(entry).toMatchObject({ before: expect.stringMatching(/^[0-9a-f]{12}$/) });
    expect(entry.time - promotedAt).toBeLessThan(5_000);

    await expect.poll(() => reader.feed().catch(String)).toEqual([unfollowed, deleted, kept]);
    const created = await author.post('new');
    await expect.poll(() => reader.feed()).toEqual([created, unfollowed, deleted, kept]);
    expect((await author.call('PUT', `/post/delete/${deleted}`)).status).toBeLessThan(300);
    expect(await reader.feed()).toEqual([created, unfollowed, kept]);
    expect((await reader.call('PUT', '/friend/delete/3')).status).toBe(200);
    expect(await reader.feed()).toEqual([created, kept]);
    const pulled = await standby.sql(
      `select p.id from posts p join follows f on f.followee_id = p.author_id
       where f.follower_id = 2 and p.deleted_at is null order by p.id desc`,
    );
    expect(pulled.map(({ id }) => String(id))).toEqual([created, kept]);
    expect(await json(['feed', 'verify', '--all'], at)).toMatchObject(NOTHING_WRONG);
    const doctor = await feedctl(['doctor', '--json'], at);
    const { checks } = JSON.parse(doctor.stdout) as { checks: { name: string }[] };
    expect(checks.find(({ name }) => name === 'lineage')).toMatchObject({
      status: 'warning',
      detail: expect.stringContaining('timeline 2 after 1'),
    });
  });
});

describe.skipIf(!redis.installed())('the data directory of `up`', () => {
  const down = async (cluster: UpCluster) => {
    cluster.child.kill('SIGTERM');
    expect((await cluster.ended).status).toBe(0);
  };
  const copy = (from: string, to: string) =>
    process.getuid?.() === 0
      ? Promise.resolve(void execFileSync('cp', ['-a', from, to]))
      : cp(from, to, { recursive: true, preserveTimestamps: true });
  const stopped = (cluster: Running) =>
    onTestFinished(async () => {
      cluster.child.kill('SIGTERM');
      await cluster.ended;
    });

  test('a directory that is put back shows no post that it lacks', { timeout: 180_000 }, async () => {
    const dataDir = join(await temporaryDirectory(), 'data');
    const options = { env: { ...UNLIMITED, FEEDCTL_CACHE_URL: await privateRedis() } };
    const start = () => up(dataDir, options);
    const followers = async (cluster: UpCluster) => {
      const user = userOf({ env: { FEEDCTL_DATA_DIR: dataDir } }, cluster.gatewayUrl);
      return [await user(1), await user(2)] as const;
    };
    let cluster = await start();
    await sql(cluster.databaseUrl, 'insert into users (id) select generate_series(1, 2)');
    let [author, reader] = await followers(cluster);
    expect((await reader.call('PUT', '/friend/set/1')).status).toBe(200);
    const first = await author.post('first');
    await expect.poll(() => reader.feed()).toEqual([first]);
    await down(cluster);
    await copy(dataDir, `${dataDir}.copy`);
    onTestFinished(() => rm(`${dataDir}.copy`, { recursive: true, force: true }));
    cluster = await start();
    [author, reader] = await followers(cluster);
    const second = await author.post('second');
    await expect.poll(() => reader.feed()).toEqual([second, first]);
    await down(cluster);
    await waitUntil(() => postgresOf(dataDir).length === 0);
    await rm(dataDir, { recursive: true });
    await copy(`${dataDir}.copy`, dataDir);
    cluster = await start();
    stopped(cluster);
    [author, reader] = await followers(cluster);
    expect(await reader.feed()).toEqual([first]);
    expect(cluster.stderr()).toContain('the cache has seen commits that the database lacks');
    const third = await author.post('third');
    await expect.poll(() => reader.feed()).toEqual([third, first]);

    // A copy beside the original, on the same Redis.
    const twinDir = `${dataDir}.twin`;
    onTestFinished(() => rm(twinDir, { recursive: true, force: true }));
    await copy(`${dataDir}.copy`, twinDir);
    const twin = await up(twinDir, options);
    stopped(twin);
    const inTwin = userOf({ env: { FEEDCTL_DATA_DIR: twinDir } }, twin.gatewayUrl);
    const [twinAuthor, twinReader] = [await inTwin(1), await inTwin(2)];
    expect(await twinReader.feed()).toEqual([first]);
    const own = await twinAuthor.post('of the copy');
    await expect.poll(() => twinReader.feed()).toEqual([own, first]);
    expect(await reader.feed()).toEqual([third, first]);
    const fourth = await author.post('fourth');
    await expect.poll(() => reader.feed()).toEqual([fourth, third, first]);
    expect(await twinReader.feed()).toEqual([own, first]);
  });
});
