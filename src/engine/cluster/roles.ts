import type { FeedCache } from '../cache/cache.ts';
import { openMemoryCache } from '../cache/memory/cache.ts';
import { scheduleEvaluations } from '../celebrities/schedule.ts';
import { type ClusterLock, lockCluster, readClusterState } from '../config/clusterState.ts';
import { type Config, serverUrl } from '../config/config.ts';
import { Database } from '../database/database.ts';
import { type EmbeddedPostgres, prepareDataDir, startEmbeddedPostgres } from '../database/embedded.ts';
import { migrate } from '../database/migrate.ts';
import { openRequestPool } from '../database/pools.ts';
import { withoutPassword } from '../database/url.ts';
import type { CheckedMessage } from '../fanout/copyBuffer.ts';
import { startWorker, type Worker } from '../fanout/worker.ts';
import { keepWarm } from '../feed/read/warm.ts';
import { sampleCachedFeeds, sampleFeeds } from '../feed/sample/schedule.ts';
import type { Gateway, GatewayOptions } from '../gateway/gateway.ts';
import { explainDiskFull } from '../model/diskFull.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import { keepComplete } from '../queues/completeness.ts';
import { Resources } from '../resilience/resources.ts';
import { DispatchMarks } from '../store/dispatchMarks.ts';
import { ensurePartitions } from '../store/partitions.ts';
import type { Log } from '../telemetry/log.ts';
import { type Metrics, openMetrics } from '../telemetry/metrics.ts';
import type { MetricsServer } from '../telemetry/metricsServer.ts';
import { checkPort } from '../telemetry/port.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { borrowServers } from './borrowedServers.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { startCheckReports } from './reportChecks.ts';
import { type StatsReporter, startReporting } from './reportStats.ts';

/** Time for each part of a role to stop, one after the other. `manifests` give a pod longer. */
export const DRAIN_MS = 10_000;
/** Maximum age of the answer of the database to a probe of a worker, which may come often. */
const READY_MS = 1_000;

export interface EmbeddedCluster {
  readonly cluster: Cluster;
  readonly worker: Worker;
  readonly gateway: Gateway;
  readonly cache: FeedCache;
  readonly postgres: EmbeddedPostgres;
  /** Name of the resource that is being released. */
  readonly stuckAt: () => string | undefined;
  stop(): Promise<void>;
}

/** Starts the gateway and its cache on an open cluster. The HTTP server is loaded only here. */
export async function startGatewayRole(
  cluster: Cluster,
  resources: Resources,
  options: GatewayOptions,
  reporter: StatsReporter = startReporting(cluster, resources),
): Promise<{ gateway: Gateway; cache: FeedCache }> {
  const { db, identity, sharedCache } = cluster;
  const cache = sharedCache ?? (await openMemoryCache(db, identity));
  // The shared cache is the cluster's: the worker of the same process needs it until its own end.
  if (!sharedCache) resources.add('cache', () => cache.close());
  if (cluster.metrics) watchCache(cluster.metrics, cache, resources);
  const requests = openRequestPool(cluster.db.server, cluster.metrics);
  resources.add('sessions of requests', () => requests.close());
  cluster.identity.guard(requests);
  resources.add('warm-up', keepWarm(requests, cache));
  const { startGateway } = await import('../gateway/gateway.ts');
  const gateway = await startGateway(
    // Requests wait for their marks, so these have the time limits of requests too.
    { ...cluster, db: requests, marks: new DispatchMarks(requests), cache },
    { ...options, limitsUrl: serverUrl(cluster.config, 'cacheUrl') },
  );
  reporter.add({ gateway, cache });
  startCheckReports(cluster, resources, { gateway, cache });
  // Through the cluster's own sessions: those of requests are for users.
  resources.add('sampling of cached feeds', sampleCachedFeeds({ ...cluster, cache }));
  resources.add('gateway', () => gateway.stop(DRAIN_MS));
  return { gateway, cache };
}

function watchCache(metrics: Metrics, cache: FeedCache, resources: Resources): void {
  const [feed, post] = [{ cache: 'feed' }, { cache: 'post' }];
  const unwatch = [
    metrics.watch('feedctl_cache_hits_total', () => cache.stats().hits, feed),
    metrics.watch('feedctl_cache_misses_total', () => cache.stats().misses, feed),
    metrics.watch('feedctl_cache_refills_total', () => cache.stats().refills, feed),
    metrics.watch('feedctl_cache_failures_total', () => cache.stats().failures, feed),
    metrics.watch('feedctl_cache_hits_total', () => cache.stats().postHits, post),
    metrics.watch('feedctl_cache_misses_total', () => cache.stats().postMisses, post),
  ];
  resources.add('metrics of the cache', () => {
    for (const stop of unwatch) stop();
  });
}

export async function startWorkerRole(
  cluster: Cluster,
  resources: Resources,
  version: string,
  options: { onBatch?: ((messages: CheckedMessage[]) => void) | undefined; drainable?: boolean } = {},
  reporter: StatsReporter = startReporting(cluster, resources),
): Promise<Worker> {
  // The last partitions take events and rows meanwhile, and maintenance tries again.
  await ensurePartitions(cluster.db, cluster.clock.now(), { timeoutMs: 0 }).catch((error) => {
    if (!isFeedctlError(error, 'SCHEMA_LOCKED')) throw error;
    cluster.log.warn({ reason: error.message }, 'partitions not created');
  });
  const worker = await startWorker({ ...cluster, version, ...options });
  reporter.add({ worker });
  startCheckReports(cluster, resources, { worker, cache: cluster.sharedCache });
  resources.add('worker', () => worker.stop(DRAIN_MS));
  resources.add('evaluation of celebrities', scheduleEvaluations(cluster));
  resources.add('sampling of feeds', sampleFeeds({ ...cluster, id: worker.id }));
  resources.add('completeness of feeds', keepComplete(cluster));
  return worker;
}

/** Serves `/metrics`, `/healthz` and `/readyz` of a worker. Throws PORT_TAKEN or CONFIG_INVALID. */
export async function startMetricsRole(
  cluster: Cluster,
  resources: Resources,
  options: { host: string; port: number },
): Promise<MetricsServer> {
  const { startMetricsServer } = await import('../telemetry/metricsServer.ts');
  const metrics = cluster.metrics ?? (await openMetrics());
  const server = await startMetricsServer(
    metrics,
    () => cluster.readiness.check({ freshMs: READY_MS }),
    options,
  );
  resources.add('metrics', () => server.close());
  return server;
}

/**
 * Starts a whole cluster in this process, with the database in a child process. Throws
 * DATA_DIR_UNUSABLE, CLUSTER_ALREADY_RUNNING, EMBEDDED_POSTGRES_FAILED, SCHEMA_NEWER or PORT_TAKEN,
 * and leaves nothing running then.
 */
export async function startEmbeddedCluster(
  config: Config,
  options: GatewayOptions & {
    log: Log;
    metrics?: Metrics;
    tracing?: Tracing | undefined;
    version: string;
    temporary?: boolean;
    signal?: AbortSignal;
    onBatch?: (messages: CheckedMessage[]) => void;
    /** Called with a sentence when a step of the start begins. */
    onStage?: (stage: string) => void;
  },
): Promise<EmbeddedCluster> {
  const { log, version, signal, onStage } = options;
  const resources = new Resources();
  try {
    // A cluster that runs in this directory has its own error, and probably the port.
    if (!(await readClusterState(config.dataDir))) await checkPort(options);
    await prepareDataDir(config.dataDir);
    const lock: ClusterLock = await lockCluster(config.dataDir, version);
    resources.add('cluster lock', () => lock.release());
    const postgres = await startEmbeddedPostgres(config.dataDir, {
      ...(options.temporary !== undefined && { temporary: options.temporary }),
      ...(signal && { signal }),
      ...(onStage && { onStage }),
    });
    resources.add('PostgreSQL', () => postgres.stop());
    const migrations = new Database(postgres.databaseUrl, { maxSessions: 2 });
    try {
      onStage?.('Checking the schema.');
      await migrate(migrations);
    } finally {
      await migrations.close();
    }
    onStage?.('Starting the worker and the gateway.');
    const metrics = options.metrics ?? (await openMetrics());
    const { tracing } = options;
    const { databaseUrl } = postgres;
    const role = 'alone';
    const cluster = await openCluster(config, { databaseUrl, log, metrics, tracing, role });
    resources.add('connections', () => cluster.close());
    // Released in reverse order: the gateway takes no more posts, then the worker finishes those it
    // has.
    const reporter = startReporting(cluster, resources);
    const { onBatch } = options;
    const worker = await startWorkerRole(cluster, resources, version, { onBatch }, reporter);
    // The database has a Unix socket only: every process of the cluster runs on this machine.
    const here = { ...options, advertised: 'this machine' } as const;
    const { gateway, cache } = await startGatewayRole(cluster, resources, here, reporter);
    await lock.publish({ databaseUrl, gatewayUrl: gateway.url, ...serversOf(config) });
    return {
      cluster,
      worker,
      gateway,
      cache,
      postgres,
      stuckAt: () => resources.current,
      stop: () => resources.release(log),
    };
  } catch (error) {
    await resources.release(log);
    if (signal?.aborted && !isFeedctlError(error)) {
      throw new FeedctlError('INTERRUPTED', 'stopped before the cluster was up', {
        cause: error,
        suggestions: [],
      });
    }
    throw explainDiskFull(error, config.dataDir);
  }
}

/** Returns the broker and the cache for other commands, which read them from a file that is no secret. */
function serversOf({ brokerUrl, cacheUrl }: Config): Pick<Config, 'brokerUrl' | 'cacheUrl'> {
  const published = (url: string | undefined) => (url && url === withoutPassword(url) ? url : undefined);
  return { brokerUrl: published(brokerUrl), cacheUrl: published(cacheUrl) };
}

/**
 * Starts a cluster that exists for one run only, with its database in `dataDir`. What it has left at the
 * broker and at the cache of the configuration is removed when it stops. Throws as `borrowServers` and
 * `startEmbeddedCluster` do.
 */
export async function startTemporaryCluster(
  config: Config,
  dataDir: string,
  options: Parameters<typeof startEmbeddedCluster>[1],
): Promise<EmbeddedCluster> {
  const servers = await borrowServers(config);
  let embedded: EmbeddedCluster | undefined;
  try {
    embedded = await startEmbeddedCluster(
      { ...config, dataDir, databaseUrl: undefined, embedded: true },
      { ...options, temporary: true },
    );
    await servers.identify(embedded.cluster.db);
  } catch (error) {
    await embedded?.stop();
    await servers.clear();
    throw error;
  }
  const { stop } = embedded;
  let stopping: Promise<void> | undefined;
  return {
    ...embedded,
    stop() {
      stopping ??= stop().finally(() => servers.clear());
      return stopping;
    },
  };
}
