import { onTestFinished } from 'vitest';
import { openMemoryCache } from '../../src/engine/cache/memory/cache.ts';
import { signToken } from '../../src/engine/gateway/auth.ts';
import { type Gateway, startGateway } from '../../src/engine/gateway/gateway.ts';
import type { SocketOptions } from '../../src/engine/gateway/sockets.ts';
import { openMetrics } from '../../src/engine/telemetry/metrics.ts';
import type { TestCluster } from './cluster.ts';
import { FeedClient } from './feedClient.ts';

/** A gateway in this process, on a free port, until the test ends. */
export async function testGateway(cluster: TestCluster, sockets?: SocketOptions): Promise<Gateway> {
  const cache = await openMemoryCache(cluster.db);
  onTestFinished(() => cache.close());
  const metrics = await openMetrics();
  const options = { host: '127.0.0.1', port: 0, sockets };
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
