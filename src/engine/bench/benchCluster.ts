import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FeedCache } from '../cache/cache.ts';
import { borrowServers } from '../cluster/borrowedServers.ts';
import { type Cluster, openCluster } from '../cluster/cluster.ts';
import { startGatewayRole, startTemporaryCluster, startWorkerRole } from '../cluster/roles.ts';
import type { Config } from '../config/config.ts';
import type { CheckedMessage } from '../fanout/copyBuffer.ts';
import type { Gateway } from '../gateway/gateway.ts';
import { FeedctlError } from '../model/errors.ts';
import { Resources } from '../resilience/resources.ts';
import { listGateways, listWorkers } from '../store/processes.ts';
import { silentLog } from '../telemetry/log.ts';
import { emptyAll } from './sql.ts';

/** A cluster for one benchmark only, with one worker and one gateway in this process. */
export interface BenchCluster {
  readonly cluster: Cluster;
  readonly cache: FeedCache;
  readonly gateway: Gateway;
  stop(): Promise<void>;
}

interface BenchClusterOptions {
  readonly version: string;
  readonly signal?: AbortSignal;
  /** Called with the messages of each batch that is written. */
  readonly onBatch: (messages: CheckedMessage[]) => void;
}

/**
 * Opens a temporary embedded database, or the configured one, which must be empty and is emptied
 * again. Broker and cache are the configured ones, which must be empty too. Throws CLUSTER_NOT_EMPTY.
 */
export async function openBenchCluster(config: Config, options: BenchClusterOptions): Promise<BenchCluster> {
  return config.embedded ? openTemporary(config, options) : openNamed(config, options);
}

async function openTemporary(config: Config, options: BenchClusterOptions): Promise<BenchCluster> {
  const dataDir = await mkdtemp(join(tmpdir(), 'feedctl-bench-'));
  await chmod(dataDir, 0o711);
  const remove = () => rm(dataDir, { recursive: true, force: true });
  try {
    const { cluster, cache, gateway, stop } = await startTemporaryCluster(config, dataDir, {
      ...options,
      host: '127.0.0.1',
      port: 0,
      log: silentLog,
    });
    return { cluster, cache, gateway, stop: () => stop().finally(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function openNamed(config: Config, options: BenchClusterOptions): Promise<BenchCluster> {
  const resources = new Resources();
  try {
    // A cluster in use is refused below, whichever servers it has.
    const cluster = await openCluster(config, { onDifference: () => {} });
    resources.add('connections', () => cluster.close());
    const { rows } = await cluster.db.query('select 1 from users limit 1');
    if (rows.length > 0)
      throw new FeedctlError('CLUSTER_NOT_EMPTY', 'the cluster has users, and a benchmark empties it');
    if ((await listGateways(cluster.db)).length > 0)
      throw new FeedctlError('CLUSTER_NOT_EMPTY', 'a gateway of the cluster is running');
    if ((await listWorkers(cluster.db)).length > 0)
      throw new FeedctlError(
        'CLUSTER_NOT_EMPTY',
        'a worker of the cluster is running and would share the work',
      );
    const servers = await borrowServers(config, cluster.db);
    resources.add('broker and cache', async () => {
      await servers.identify(cluster.db);
      await servers.clear();
    });
    resources.add('rows of the benchmark', async () => {
      await emptyAll(cluster.db);
      await cluster.changes.resetting(cluster.db);
    });
    await startWorkerRole(cluster, resources, options.version, { onBatch: options.onBatch });
    const { gateway, cache } = await startGatewayRole(cluster, resources, { host: '127.0.0.1', port: 0 });
    return { cluster, cache, gateway, stop: () => resources.release() };
  } catch (error) {
    await resources.release();
    throw error;
  }
}
