import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fanOutDrained } from '../../../src/engine/bus/drained.ts';
import { type Cluster, openCluster } from '../../../src/engine/cluster/cluster.ts';
import { startGatewayRole, startWorkerRole } from '../../../src/engine/cluster/roles.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { Database } from '../../../src/engine/database/database.ts';
import { prepareDataDir, startEmbeddedPostgres } from '../../../src/engine/database/embedded.ts';
import { migrate } from '../../../src/engine/database/migrate.ts';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import { timeOfId } from '../../../src/engine/model/ids.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { createUser } from '../../../src/engine/social/users.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { runConcurrently } from '../../../src/engine/util/parallel.ts';
import { FeedClient } from '../../support/feedClient.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { management, rabbitmq, startRabbit } from '../../support/rabbitmq.ts';
import { redis, startRedis } from '../../support/redis.ts';

const SOCKETS = 60;
const AUTHORS = 6;
const OPTIONS = { host: '127.0.0.1', port: 0, limits: UNLIMITED };

/**
 * Servers of this test's own, a worker and two gateways on them, and clients that stay connected.
 */
async function everything() {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-restart-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await chmod(directory, 0o711);
  const dataDir = join(directory, 'postgres');
  await prepareDataDir(dataDir);
  let postgres = await startEmbeddedPostgres(dataDir);
  onTestFinished(() => postgres.stop());
  const { databaseUrl } = postgres;
  const direct = new Database(databaseUrl, { maxSessions: 2 });
  await migrate(direct);
  await direct.close();
  const rabbit = await startRabbit(join(directory, 'rabbit'));
  onTestFinished(() => rabbit.stop());
  const cache = await startRedis();
  onTestFinished(() => cache.stop());
  const config = await loadConfig(
    { databaseUrl, cacheUrl: cache.url },
    { FEEDCTL_BROKER_URL: rabbit.url.replace(/\?.*/, '') },
  );
  const open = async (): Promise<Cluster> => {
    const cluster = await openCluster(config, { log: silentLog, metrics: await openMetrics() });
    onTestFinished(() => cluster.close());
    return cluster;
  };
  const worker = await open();
  await startWorkerRole(worker, worker.resources, 'test');
  const gateways = await Promise.all(
    [1, 2].map(async () => {
      const cluster = await open();
      return (await startGatewayRole(cluster, cluster.resources, OPTIONS)).gateway;
    }),
  );
  const users = await runConcurrently(Array.from({ length: SOCKETS + AUTHORS }), 8, () =>
    createUser(worker, {}),
  );
  const authors = users.slice(0, AUTHORS).map(({ id }) => id);
  const clients = await runConcurrently(users.slice(AUTHORS), 8, async ({ id }) => {
    for (const author of [authors[id % AUTHORS]!, authors[(id + 1) % AUTHORS]!])
      await follow(worker, { followerId: id, followeeId: author });
    return new FeedClient(id, await signToken(worker.db, id));
  });
  onTestFinished(async () => void (await Promise.all(clients.map((client) => client.stop()))));
  await fanOutDrained(worker);
  const urls = gateways.map(({ url }) => url);
  await Promise.all(clients.map((client) => client.stay(() => urls)));
  const restartPostgres = async () => {
    await postgres.stop();
    await sleep(1_000);
    postgres = await startEmbeddedPostgres(dataDir);
    expect(postgres.databaseUrl).toBe(databaseUrl);
  };
  return { worker, gateways, authors, clients, rabbit, cache, restartPostgres };
}

describe.skipIf(!rabbitmq.installed() || !redis.installed())('with servers of its own', () => {
  test('Redis, RabbitMQ and PostgreSQL are each restarted under load, queues deleted, and no socket misses a post', {
    timeout: 300_000,
  }, async () => {
    const { worker, gateways, authors, clients, rabbit, cache, restartPostgres } = await everything();
    const made = new Map(authors.map((author) => [author, [] as number[]]));
    let posting = true;
    let refused = 0;
    const posts = runConcurrently(authors, AUTHORS, async (author) => {
      while (posting) {
        await createPost(worker, author, 'under load').then(
          ({ id }) => made.get(author)!.push(id),
          () => {
            refused += 1;
          },
        );
        await sleep(60);
      }
    });
    const count = () => clients.reduce((sum, { posts }) => sum + posts.length, 0);
    const flowing = async () => {
      for (const { url } of gateways)
        await expect.poll(async () => (await fetch(`${url}/readyz`)).status, { timeout: 90_000 }).toBe(200);
      const before = count();
      await expect.poll(count, { timeout: 90_000 }).toBeGreaterThan(before + 10 * SOCKETS);
    };
    await flowing();
    await cache.down('kill');
    await sleep(1_000);
    await cache.up();
    await flowing();
    for (const how of ['stop', 'kill'] as const) {
      await rabbit.down(how);
      await sleep(1_000);
      await rabbit.up();
      await flowing();
    }
    for (const { id } of gateways)
      await management(rabbit.managementUrl, 'DELETE', `queues/%2F/feed.live.${id}`);
    await flowing();
    await restartPostgres();
    await flowing();
    posting = false;
    await posts;
    await fanOutDrained(worker);

    const missing = () =>
      clients.flatMap(({ userId, posts }) => {
        const got = new Set(posts);
        return [authors[userId % AUTHORS]!, authors[(userId + 1) % AUTHORS]!]
          .flatMap((author) => made.get(author)!)
          .filter((id) => !got.has(id))
          .map((id) => `post ${id} of ${new Date(timeOfId(id)).toISOString()}: user ${userId}`);
      });
    await expect.poll(missing, { timeout: 60_000 }).toEqual([]);
    for (const { posts } of clients) expect(new Set(posts).size).toBe(posts.length);
    expect(refused, 'posts that the author was told were not made').toBeLessThan(1_000);
    expect(clients.every((client) => client.isOpen)).toBe(true);
  });
});
