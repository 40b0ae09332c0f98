import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  feedctl,
  json,
  type Outcome,
  type SpawnOptions,
  temporaryDirectory,
  testRole,
  up,
} from '../support/cli.ts';
import { freshDatabase } from '../support/cluster.ts';
import { startRedis } from '../support/redis.ts';
import { findServer } from '../support/server.ts';

const redisServer = await findServer('redis');

interface Feed {
  readonly items: { postId: number; body: string }[];
}

const errorOf = ({ stdout }: Outcome): string =>
  (JSON.parse(stdout) as { error: { code: string } }).error.code;

async function privateRedis(): Promise<{ url: string; port: string }> {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  return { url: server.url, port: new URL(server.url).port };
}

/** The texts that a gateway shows a reader. */
async function shown(gatewayUrl: string, reader: number, at: SpawnOptions): Promise<string[]> {
  const { token } = await json<{ token: string }>(['user', 'token', String(reader)], at);
  const answer = await fetch(`${gatewayUrl}/post/feed`, { headers: { authorization: `Bearer ${token}` } });
  expect(answer.status).toBe(200);
  return ((await answer.json()) as { text: string }[]).map(({ text }) => text);
}

const idOf = async (at: SpawnOptions): Promise<number> =>
  (await json<{ id: number }>(['user', 'create', 'Some', 'Name'], at)).id;

async function followed(at: SpawnOptions): Promise<{ author: number; reader: number }> {
  const [author, reader] = [await idOf(at), await idOf(at)];
  await json(['follow', 'create', String(reader), String(author)], at);
  return { author, reader };
}

describe.skipIf(!redisServer)('with Redis', () => {
  test('a shell without the cache of the cluster changes nothing, and by its other address it may', async () => {
    const [cache, other] = [await privateRedis(), await privateRedis()];
    const { url } = await freshDatabase();
    const withCache = (cacheUrl = ''): SpawnOptions => ({
      env: { FEEDCTL_DATABASE_URL: url, FEEDCTL_CACHE_URL: cacheUrl },
    });
    const at = withCache(cache.url);
    await testRole(['worker', 'start'], at);
    const gateway = await testRole(['gateway', 'start', '--port', '0'], at);
    const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
    const { author, reader } = await followed(at);
    await json(['post', 'create', String(author), 'kept'], at);
    await expect.poll(() => shown(gatewayUrl, reader, at)).toEqual(['kept']);
    for (const cacheUrl of ['', other.url])
      for (const args of [
        ['user', 'erase', String(author), '--yes', String(author)],
        ['post', 'create', String(author), 'lost'],
        ['worker', 'start'],
        ['gateway', 'start', '--port', '0'],
      ]) {
        const outcome = await feedctl([...args, '--json'], withCache(cacheUrl));
        expect([outcome.status, errorOf(outcome)]).toEqual([1, 'CLUSTER_DIFFERS']);
      }
    expect(await shown(gatewayUrl, reader, at)).toEqual(['kept']);
    // Reading needs no cache.
    const reading = await feedctl(['feed', 'show', String(reader), '--json'], withCache(undefined));
    expect(reading.status).toBe(0);
    expect(reading.stderr).toContain('this process no cache');
    // A forwarded port is another address of the same server.
    await json(['post', 'create', String(author), 'forwarded'], withCache(`redis://localhost:${cache.port}`));
    await expect.poll(() => shown(gatewayUrl, reader, at)).toEqual(['forwarded', 'kept']);
  });

  test('a cluster that ran without its cache for a while shows what was posted meanwhile', async () => {
    const cache = await privateRedis();
    const dataDir = await temporaryDirectory();
    const at: SpawnOptions = { env: { FEEDCTL_DATA_DIR: dataDir } };
    const run = async <T>(cacheUrl: string, work: (gatewayUrl: string) => Promise<T>) => {
      const cluster = await up(dataDir, { env: { FEEDCTL_CACHE_URL: cacheUrl } });
      const result = await work(cluster.gatewayUrl);
      await feedctl(['down'], at);
      return result;
    };
    const { author, reader } = await run(cache.url, async (gatewayUrl) => {
      // The shell has no FEEDCTL_CACHE_URL: the running cluster names its cache.
      const people = await followed(at);
      await json(['post', 'create', String(people.author), 'first'], at);
      await expect.poll(() => shown(gatewayUrl, people.reader, at)).toEqual(['first']);
      return people;
    });
    await run('', async (gatewayUrl) => {
      await json(['post', 'create', String(author), 'second'], at);
      await expect.poll(() => shown(gatewayUrl, reader, at)).toEqual(['second', 'first']);
    });
    await run(cache.url, async (gatewayUrl) => {
      expect(await shown(gatewayUrl, reader, at)).toEqual(['second', 'first']);
    });
  });
});

test('a production cluster is known to its database', async () => {
  const { url } = await freshDatabase();
  const at: SpawnOptions = { env: { FEEDCTL_DATABASE_URL: url } };
  const [, name] = /\/(\w+)\?/.exec(url)!;
  const { author } = await followed(at);
  expect((await feedctl(['status', '--json'], at)).stdout).toContain(`"context": "${name}"`);
  // A role of a production context says it.
  await testRole(['worker', 'start'], { env: { ...at.env, FEEDCTL_PRODUCTION: 'true' } });
  const post = ['post', 'create', String(author), 'text', '--json'];
  const asked = await feedctl(post, at);
  expect([asked.status, errorOf(asked)]).toEqual([2, 'CONFIRMATION_REQUIRED']);
  expect((await feedctl([...post, '--context-name', name!], at)).status).toBe(0);
  expect((await feedctl([...post, '--dry-run'], at)).status).toBe(0);
  expect((await feedctl(['cluster', 'production', 'off', '--json'], at)).status).toBe(2);
  await json(['cluster', 'production', 'off', '--context-name', name!], at);
  expect((await feedctl(post, at)).status).toBe(0);
});

test('a copied data directory becomes another cluster, and the original stays as it is', async () => {
  const dataDir = await temporaryDirectory();
  const copy = join(await temporaryDirectory(), 'copy');
  const at = (directory: string): SpawnOptions => ({ env: { FEEDCTL_DATA_DIR: directory } });
  await up(dataDir);
  const { author } = await followed(at(dataDir));
  await json(['post', 'create', String(author), 'before'], at(dataDir));
  await feedctl(['down'], at(dataDir));
  // The files keep their owner, which is not the user of this test.
  execFileSync('cp', ['-a', dataDir, copy]);
  type Identity = { cluster: string; lineages: { reason: string }[]; roles: number };
  const identity = (directory: string) => json<Identity>(['cluster', 'identity'], at(directory));
  const { cluster } = await identity(dataDir);
  expect(await identity(copy)).toMatchObject({ cluster });
  const refused = await feedctl(['cluster', 'identify', '--yes', 'other', '--json'], at(copy));
  expect([refused.status, errorOf(refused)]).toEqual([2, 'CONFIRMATION_REQUIRED']);
  const rehearsed = await json(['cluster', 'identify', '--dry-run'], at(copy));
  expect(rehearsed).toEqual({ before: cluster, cluster, roles: 0, dryRun: true });
  expect((await identity(copy)).cluster).toBe(cluster);
  await json(['cluster', 'identify', '--yes', cluster], at(copy));
  const renamed = await identity(copy);
  expect(renamed.cluster).not.toBe(cluster);
  expect(renamed).toMatchObject({ roles: 0, lineages: [{ reason: 'a copy became a cluster' }] });
  expect((await identity(dataDir)).cluster).toBe(cluster);
  // It is a whole cluster.
  await up(copy);
  await json(['post', 'create', String(author), 'after'], at(copy));
  expect((await json<Feed>(['feed', 'show', String(author)], at(copy))).items).toMatchObject([
    { body: 'after' },
    { body: 'before' },
  ]);
  await feedctl(['down'], at(copy));
  await json(['cluster', 'adopt', '--yes'], at(copy));
  expect((await identity(copy)).lineages).toHaveLength(2);
});
