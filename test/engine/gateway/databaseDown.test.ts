import { describe, expect, onTestFinished, test } from 'vitest';
import { openCluster } from '../../../src/engine/cluster/cluster.ts';
import { startGatewayRole, startWorkerRole } from '../../../src/engine/cluster/roles.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { deletePost } from '../../../src/engine/social/posts.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { testCluster } from '../../support/cluster.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { openProxy } from '../../support/proxy.ts';
import { startRedis } from '../../support/redis.ts';
import { findServer } from '../../support/server.ts';
import { ask } from './served.ts';

describe.skipIf(!(await findServer('redis')))('while the database is away', () => {
  test('feeds come from Redis, writes are refused, and nothing that was acknowledged is lost', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const direct = await testCluster();
    const proxy = await openProxy(direct.url);
    const config = await loadConfig({ databaseUrl: proxy.url, cacheUrl: redis.url }, {});
    const cluster = await openCluster(config, { log: silentLog, metrics: await openMetrics() });
    onTestFinished(() => cluster.close());
    await startWorkerRole(cluster, cluster.resources, 'test');
    const options = { host: '127.0.0.1', port: 0, limits: UNLIMITED };
    const { gateway } = await startGatewayRole(cluster, cluster.resources, options);
    const [author, reader, stranger] = (await direct.users(3)) as [number, number, number];
    await follow(cluster, { followerId: reader, followeeId: author });
    await direct.settled();
    const token = await signToken(direct.db, author);
    const post = (text: string) => ask(gateway.url, 'POST', '/post/create', { token, body: { text } });
    const feedOf = async (user: number) =>
      ask(gateway.url, 'GET', '/post/feed', { token: await signToken(direct.db, user) });
    const made: string[] = [];
    for (const text of ['first', 'second', 'third']) made.unshift((await post(text)).body.id);
    await direct.settled();
    await deletePost(cluster, Number(made[1]));
    made.splice(1, 1);
    // biome-ignore lint/suspicious/noExplicitAny: an array of posts
    const idsOf = ({ body }: { body: any }) => body.map((item: { id: string }) => item.id);
    for (let reads = 0; reads < 3; reads += 1) expect(idsOf(await feedOf(reader))).toEqual(made);

    proxy.cut();
    const isHeld = async () => {
      const cached = await feedOf(reader);
      expect({ status: cached.status, ids: idsOf(cached) }).toEqual({ status: 200, ids: made });
      return /hit/.test(cached.headers.get('cache-status') ?? '');
    };
    await expect.poll(isHeld).toBe(true);
    expect(await feedOf(stranger), 'what was never read is nowhere else').toMatchObject({ status: 503 });
    for (const refused of await Promise.all([post('nowhere'), post('nor here')])) {
      expect(refused.status).toBe(503);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    }
    expect(await isHeld()).toBe(true);

    proxy.open();
    await expect.poll(async () => (await feedOf(stranger)).status).toBe(200);
    await expect.poll(async () => (await feedOf(reader)).headers.get('cache-status')).toBe(null);
    const after = await post('after');
    expect(after.status).toBe(201);
    made.unshift(after.body.id);
    await direct.settled();
    await expect.poll(async () => idsOf(await feedOf(reader))).toEqual(made);
    expect(await verify(direct.db, undefined)).toMatchObject({ mismatched: 0 });
  });
});
