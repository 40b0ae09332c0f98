import { existsSync } from 'node:fs';
import type { Bus } from '../bus/bus.ts';
import { LocalBus } from '../bus/local/bus.ts';
import type { FeedCache } from '../cache/cache.ts';
import { notifiedChanges } from '../cache/invalidation.ts';
import { readClusterState } from '../config/clusterState.ts';
import { type Config, serverUrl } from '../config/config.ts';
import { Database, type SessionLimits } from '../database/database.ts';
import { checkSchema } from '../database/migrate.ts';
import { openReadiness, type Readiness } from '../fleet/readiness.ts';
import { Identity } from '../identity/identity.ts';
import { openUnfollows } from '../live/unfollows.ts';
import { counted } from '../model/counted.ts';
import { FeedctlError } from '../model/errors.ts';
import type { Invocation } from '../model/operation.ts';
import { Resources } from '../resilience/resources.ts';
import type { SocialContext } from '../social/context.ts';
import { ProcessStats } from '../stats/process.ts';
import { DatabaseClock, MAX_OFFSET_MS } from '../store/databaseClock.ts';
import { DispatchMarks } from '../store/dispatchMarks.ts';
import { openIdSource } from '../store/idLeases.ts';
import { type Log, silentLog } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { ServerUrl } from '../util/serverUrl.ts';
import type { FoundComponents, JoinedComponents } from './components.ts';

/** Everything that a command or a role works with, opened in one place and passed down. */
export interface Cluster extends SocialContext {
  readonly config: Config;
  readonly db: Database;
  /** Who the cluster is, confirmed on each new session of the database. */
  readonly identity: Identity;
  /** Every change by an operator asks for a name: the database says so. */
  readonly production: boolean;
  readonly bus: Bus;
  readonly clock: DatabaseClock;
  /** Whether this process can work. Its roles share it. */
  readonly readiness: Readiness;
  /** The cache that all processes share; undefined if each gateway has its own. */
  readonly sharedCache: FeedCache | undefined;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
  readonly resources: Resources;
  close(): Promise<void>;
}

/** Returns the configured URL, or that of the embedded cluster that runs in the data directory. */
export async function resolveDatabase(config: Config): Promise<ServerUrl> {
  const configured = serverUrl(config, 'databaseUrl');
  if (configured) return configured;
  const state = await readClusterState(config.dataDir);
  if (!state?.databaseUrl) {
    const missing = existsSync(config.dataDir) ? '' : ', which does not exist';
    throw new FeedctlError('CLUSTER_NOT_RUNNING', `no cluster runs in ${config.dataDir}${missing}`);
  }
  return new ServerUrl(state.databaseUrl);
}

/**
 * Returns the URL of the gateway with the newest heartbeat that is ready. Throws
 * GATEWAY_UNREACHABLE if none is.
 */
export async function resolveGatewayUrl({
  config,
  db,
  identity,
}: Pick<Cluster, 'config' | 'db' | 'identity'>): Promise<string> {
  const { checkCluster, whyNotReady } = await import('../fleet/notReady.ts');
  if (config.gatewayUrl) {
    await checkCluster(config.gatewayUrl, identity.cluster);
    return config.gatewayUrl;
  }
  const { listGateways } = await import('../store/processes.ts');
  const gateways = (await listGateways(db)).sort((a, b) => a.heartbeatAgeMs - b.heartbeatAgeMs);
  let first: string | undefined;
  for (const gateway of gateways) {
    const reason = await whyNotReady(gateway);
    if (reason === null) return gateway.url;
    first ??= `none of ${counted(gateways.length, 'gateway')} is ready; ${gateway.url}: ${reason}`;
  }
  throw new FeedctlError('GATEWAY_UNREACHABLE', first ?? 'no gateway is running');
}

/**
 * Opens the configured broker, or the queue in the database. The broker's driver is loaded only for
 * a broker. `sessions`: limits of each pool, for commands that only read. `identity`: without it the
 * broker's driver reads it when it connects.
 */
export async function openBus(
  config: Config,
  database: ServerUrl,
  log: Log,
  { sessions, identity }: { sessions?: SessionLimits; identity?: Identity } = {},
): Promise<Bus> {
  const brokers = serverUrl(config, 'brokerUrl');
  if (!brokers) return new LocalBus(database, { sessions, identity });
  const { RabbitBus } = await import('../bus/rabbitmq/bus.ts');
  return new RabbitBus(brokers, database, {
    log,
    managementUrl: config.brokerManagementUrl,
    sessions,
    identity,
  });
}

interface OpenOptions {
  /** Given by a process that started the server. */
  readonly databaseUrl?: string;
  readonly log?: Log;
  /** Given by roles, whose calls are guarded; commands fail immediately instead. */
  readonly metrics?: Metrics;
  readonly tracing?: Tracing | undefined;
  /** The operator and the command, recorded with operations. */
  readonly invocation?: Invocation;
  /** The process is a role of the cluster. `alone`: no other process can be one. */
  readonly role?: 'one of many' | 'alone';
  /** Called if the broker or the cache is not that of the cluster, by a command that only reads. */
  readonly onDifference?: ((difference: FeedctlError) => void) | undefined;
}

/**
 * Opens the cluster. Throws DATABASE_UNREACHABLE or another DATABASE_ code, CLUSTER_NOT_RUNNING,
 * SCHEMA_MISSING, SCHEMA_NEWER, CLUSTER_DIFFERS, CACHE_REFUSED, CACHE_TLS_FAILED, CACHE_UNSUITABLE or
 * CONFIG_INVALID.
 */
export async function openCluster(config: Config, options: OpenOptions = {}): Promise<Cluster> {
  const resources = new Resources();
  const stats = options.metrics && new ProcessStats(Date.now, () => performance.now());
  const baseLog = options.log ?? silentLog;
  const log = stats?.watchLog(baseLog) ?? baseLog;
  try {
    const server = options.databaseUrl ? new ServerUrl(options.databaseUrl) : await resolveDatabase(config);
    if (options.metrics) followSources(config, log);
    const { metrics, tracing, invocation } = options;
    const db = metrics
      ? (await import('../database/pools.ts')).openWorkPool(server, metrics, invocation)
      : new Database(server, { invocation });
    resources.add('database', () => db.close());
    await checkSchema(db, config.store);
    const identity = await Identity.open(db, log);
    const bus = await guarded(await openBus(config, server, log, { identity }), config, metrics);
    resources.add('bus', () => bus.close());
    if (metrics) watchBroker(metrics, bus, resources);
    const limitMs = metrics ? MAX_OFFSET_MS : Number.POSITIVE_INFINITY;
    const clock = new DatabaseClock({ log, metrics, limitMs });
    resources.add('clock', () => clock.close());
    if (metrics) await clock.read(db);
    const ids = openIdSource(db, { clock, metrics });
    resources.add('node number', () => ids.release());
    resources.add(
      'watch of the lineage',
      identity.watch(() => ids.confirmLease()),
    );
    const marks = new DispatchMarks(db);
    const unfollows = openUnfollows(db);
    resources.add('unfollows', () => unfollows.close());
    let sharedCache = await openSharedCache(config, db, identity, log, metrics);
    resources.add('cache', () => sharedCache?.close());
    const { difference, production, checkJoined } = await checkComponents(
      { config, db, identity, bus, log, sharedCache },
      options,
    );
    const readiness = openReadiness({ db, bus, ids, identity, clock, checkComponents: checkJoined });
    resources.add('readiness', () => readiness.close());
    if (difference) {
      // Reading commands go on. What they would write to a cache that is not the cluster's misleads roles.
      await sharedCache?.close();
      sharedCache = undefined;
      options.onDifference?.(difference);
    }
    await sharedCache?.begin?.();
    const changes = sharedCache ?? notifiedChanges;
    const close = () => resources.release(log);
    return {
      ...{ config, db, identity, production, bus, sharedCache, changes, clock, ids, marks },
      ...{ unfollows, readiness, log, metrics, tracing, stats, resources, close },
    };
  } catch (error) {
    await resources.release(log);
    throw error;
  }
}

/** Returns a difference that a reading command is warned of. Throws CLUSTER_DIFFERS otherwise. */
async function checkComponents(
  cluster: Pick<Cluster, 'config' | 'db' | 'identity' | 'bus' | 'log' | 'sharedCache'>,
  { role, onDifference }: OpenOptions,
): Promise<FoundComponents & Partial<JoinedComponents>> {
  const { findComponents, joinComponents } = await import('./components.ts');
  const { raiseEpoch } = await import('../cache/redis/epoch.ts');
  const isOwnCache = async () => (await cluster.sharedCache?.isUsed?.().catch(() => false)) ?? false;
  const brokerName = () => cluster.bus.serverName?.();
  const context = { ...cluster, lineage: cluster.identity.lineage, isOwnCache, brokerName, raiseEpoch };
  if (role) return { ...(await joinComponents(context, role === 'alone')), difference: undefined };
  const found = await findComponents(context);
  if (found.difference && !onDifference) throw found.difference;
  return found;
}

/** Makes a role read the sources of its URLs again. */
function followSources({ sourced = {} }: Config, log: Log): void {
  for (const url of Object.values(sourced))
    url.follow((reason) => log.warn({ reason }, 'the last known URL is used for new connections'));
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
  identity: Identity,
  log: Log,
  metrics?: Metrics,
): Promise<FeedCache | undefined> {
  const url = serverUrl(config, 'cacheUrl');
  if (!url) return undefined;
  const { openRedisCache } = await import('../cache/redis/cache.ts');
  return openRedisCache(url, db, log, metrics, identity);
}
