import { onTestFinished } from 'vitest';
import { openMemoryCache } from '../../src/engine/cache/memory/cache.ts';
import { signToken } from '../../src/engine/gateway/auth.ts';
import { type Gateway, startGateway } from '../../src/engine/gateway/gateway.ts';
import type { SocketOptions } from '../../src/engine/gateway/sockets.ts';
import { openMetrics } from '../../src/engine/telemetry/metrics.ts';
import type { TestCluster } from './cluster.ts';
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

/** A gateway in this process, on a free port and without limits on requests, until the test ends. */
export async function testGateway(cluster: TestCluster, sockets?: SocketOptions): Promise<Gateway> {
  const cache = await openMemoryCache(cluster.db);
  onTestFinished(() => cache.close());
  const metrics = await openMetrics();
  const options = { host: '127.0.0.1', port: 0, sockets, limits: UNLIMITED };
  const gateway = await startGateway({ ...cluster, cache, metrics }, options);
  onTestFinished(() => gateway.stop(1_000));
  return gateway;
}

/** A client with a token, not connected. */
export async function testClient(cluster: TestCluster, userId: number): Promise<FeedClient> {
  const client = new FeedClient(userId, await signToken(cluster.db, userId));
  onTestFinished(() => client.stop());
  return client;
}
