import { onTestFinished } from 'vitest';
import type { FeedCache } from '../../src/engine/cache/cache.ts';
import { openMemoryCache } from '../../src/engine/cache/memory/cache.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../../src/engine/gateway/gateway.ts';
import { signToken } from '../../src/engine/gateway/tokens.ts';
import type { SocketOptions } from '../../src/engine/gateway/websockets.ts';
import { follow } from '../../src/engine/social/follows.ts';
import { openMetrics } from '../../src/engine/telemetry/metrics.ts';
import { type TestCluster, testCluster } from './cluster.ts';
import { FeedClient } from './feedClient.ts';

/** No limit on requests. */
export const UNLIMITED = {
  user: 0,
  userWrites: 0,
  ip: 0,
  ipUnauthenticated: 0,
  burstPercent: 0,
  failedLogins: 0,
};

/** Starts a gateway in this process on a free port, with a cache in memory, until the test ends. */
export async function cachedGateway(
  cluster: TestCluster,
  options: Partial<GatewayOptions>,
): Promise<{ gateway: Gateway; cache: FeedCache }> {
  const cache = await openMemoryCache(cluster.db);
  onTestFinished(() => cache.close());
  const metrics = await openMetrics();
  const gateway = await startGateway(
    { ...cluster, cache, metrics },
    { host: '127.0.0.1', port: 0, ...options },
  );
  onTestFinished(() => gateway.stop(1_000));
  return { gateway, cache };
}

/** Starts a gateway without limits on requests. */
export async function testGateway(cluster: TestCluster, sockets?: SocketOptions): Promise<Gateway> {
  return (await cachedGateway(cluster, { sockets, limits: UNLIMITED })).gateway;
}

/** A gateway, an author, and a reader who follows them and has a client that is not connected. */
export async function followedAuthor() {
  const cluster = await testCluster();
  await cluster.startWorker();
  const gateway = await testGateway(cluster);
  const [author, reader] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: reader, followeeId: author });
  await cluster.settled();
  return { cluster, gateway, author, reader, client: await testClient(cluster, reader) };
}

/** A client with a token, not connected. */
export async function testClient(cluster: TestCluster, userId: number): Promise<FeedClient> {
  const client = new FeedClient(userId, await signToken(cluster.db, userId));
  onTestFinished(() => client.stop());
  return client;
}
