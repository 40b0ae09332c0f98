import type { Bus } from '../bus/bus.ts';
import { LocalBus } from '../bus/local/bus.ts';
import type { FeedCache } from '../cache/cache.ts';
import { notifiedChanges } from '../cache/invalidation.ts';
import { readClusterState } from '../config/clusterState.ts';
import type { Config } from '../config/config.ts';
import { Database, type SessionLimits } from '../database/database.ts';
import { checkSchema } from '../database/migrate.ts';
import { Identity } from '../identity/identity.ts';
import { openUnfollows } from '../live/unfollows.ts';
import { FeedctlError } from '../model/errors.ts';
import type { Invocation } from '../model/operation.ts';
import { Resources } from '../resilience/resources.ts';
import type { SocialContext } from '../social/context.ts';
import { ProcessStats } from '../stats/process.ts';
import { openIdSource } from '../store/idLeases.ts';
import { type Log, silentLog } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Tracing } from '../telemetry/tracing.ts';

/** Everything that a command or a role works with, opened in one place and passed down. */
export interface Cluster extends SocialContext {
  readonly config: Config;
  readonly db: Database;
  /** Who the cluster is, confirmed on each new session of the database. */
  readonly identity: Identity;
  readonly bus: Bus;
  /** The cache that all processes share; undefined if each gateway has its own. */
  readonly sharedCache: FeedCache | undefined;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
  readonly resources: Resources;
  close(): Promise<void>;
}

/** Returns the configured URL, or that of the embedded cluster that runs in the data directory. */
export async function resolveDatabaseUrl(config: Config): Promise<string> {
  if (config.databaseUrl) return config.databaseUrl;
  const state = await readClusterState(config.dataDir);
  if (!state?.databaseUrl)
    throw new FeedctlError('CLUSTER_NOT_RUNNING', `no cluster runs in ${config.dataDir}`);
  return state.databaseUrl;
}

/**
 * Returns the URL of the gateway with the newest heartbeat that is ready. Throws
 * GATEWAY_UNREACHABLE if none is.
 */
export async function resolveGatewayUrl(config: Config, db: Database): Promise<string> {
  if (config.gatewayUrl) return config.gatewayUrl;
  const { listGateways } = await import('../store/processes.ts');
  const { isReady } = await import('../fleet/isReady.ts');
  const gateways = (await listGateways(db)).sort((a, b) => a.heartbeatAgeMs - b.heartbeatAgeMs);
  for (const { url } of gateways) if (await isReady(url)) return url;
  const why = gateways.length > 0 ? `none of ${gateways.length} gateway(s) answers` : 'no gateway is running';
  throw new FeedctlError('GATEWAY_UNREACHABLE', why);
}

/**
 * Opens the configured broker, or the queue in the database. The broker's driver is loaded only for
 * a broker. `sessions`: limits of each pool, for commands that only read. `identity`: without it the
 * broker's driver reads it when it connects.
 */
export async function openBus(
  config: Config,
  databaseUrl: string,
  log: Log,
  { sessions, identity }: { sessions?: SessionLimits; identity?: Identity } = {},
): Promise<Bus> {
  if (!config.brokerUrl) return new LocalBus(databaseUrl, { sessions });
  const { RabbitBus } = await import('../bus/rabbitmq/bus.ts');
  return new RabbitBus(config.brokerUrl, databaseUrl, {
    log,
    managementUrl: config.brokerManagementUrl,
    sessions,
    identity,
  });
}

/**
 * Opens the cluster. Throws DATABASE_UNREACHABLE or another DATABASE_ code, CLUSTER_NOT_RUNNING,
 * SCHEMA_MISSING, SCHEMA_NEWER, CACHE_REFUSED, CACHE_TLS_FAILED, CACHE_UNSUITABLE or
 * CONFIG_INVALID.
 *
 * `databaseUrl`: given by a process that started the server. `metrics`: given by roles, whose calls
 * are guarded; commands fail immediately instead. `invocation`: the operator and the command,
 * recorded with operations.
 */
export async function openCluster(
  config: Config,
  options: {
    databaseUrl?: string;
    log?: Log;
    metrics?: Metrics;
    tracing?: Tracing | undefined;
    invocation?: Invocation;
  } = {},
): Promise<Cluster> {
  const resources = new Resources();
  const stats = options.metrics && new ProcessStats(Date.now, () => performance.now());
  const baseLog = options.log ?? silentLog;
  const log = stats?.watchLog(baseLog) ?? baseLog;
  try {
    const url = options.databaseUrl ?? (await resolveDatabaseUrl(config));
    const { metrics, tracing, invocation } = options;
    const db = metrics
      ? (await import('../database/pools.ts')).openWorkPool(url, metrics, invocation)
      : new Database(url, { invocation });
    resources.add('database', () => db.close());
    await checkSchema(db, config.store);
    const identity = await Identity.open(db, log);
    const bus = await guarded(await openBus(config, url, log, { identity }), config, metrics);
    resources.add('bus', () => bus.close());
    if (metrics) watchBroker(metrics, bus, resources);
    const ids = openIdSource(db, metrics);
    resources.add('node number', () => ids.release());
    const unfollows = openUnfollows(db);
    resources.add('unfollows', () => unfollows.close());
    const sharedCache = await openSharedCache(config, db, log, metrics);
    resources.add('cache', () => sharedCache?.close());
    const changes = sharedCache ?? notifiedChanges;
    const close = () => resources.release(log);
    return {
      ...{ config, db, identity, bus, sharedCache, changes, ids, unfollows },
      ...{ log, metrics, tracing, stats, resources, close },
    };
  } catch (error) {
    await resources.release(log);
    throw error;
  }
}

function watchBroker(metrics: Metrics, bus: Bus, resources: Resources): void {
  if (!bus.refusal) return;
  const unwatch = (['BROKER_OTHER_CLUSTER', 'BROKER_OTHER_LINEAGE'] as const).map((code) =>
    metrics.watch('feedctl_broker_refused', () => Number(bus.refusal?.()?.code === code), { code }),
  );
  resources.add('metrics of the broker', () => {
    for (const stop of unwatch) stop();
  });
}

/** Guards a broker. The queue in the database is behind the database's guard already. */
async function guarded(bus: Bus, config: Config, metrics: Metrics | undefined): Promise<Bus> {
  if (!config.brokerUrl || !metrics) return bus;
  const { guardedBus } = await import('../bus/guarded.ts');
  const { openGuard } = await import('../resilience/guard.ts');
  const { BROKER } = await import('../resilience/limits.ts');
  return guardedBus(bus, openGuard({ dependency: 'broker', metrics, ...BROKER }));
}

/**
 * Opens the configured cache. Commands that change feeds need it too, to invalidate cached feeds.
 */
export async function openSharedCache(
  config: Config,
  db: Database,
  log: Log,
  metrics?: Metrics,
): Promise<FeedCache | undefined> {
  if (!config.cacheUrl) return undefined;
  const { openRedisCache } = await import('../cache/redis/cache.ts');
  return openRedisCache(config.cacheUrl, db, log, metrics);
}
