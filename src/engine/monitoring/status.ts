import type { FeedCache } from '../cache/cache.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { withoutPassword } from '../database/url.ts';
import { type GatewayState, gatewayStates } from '../fleet/gateways.ts';
import { type WorkerState, workerStates } from '../fleet/workers.ts';
import { counted } from '../model/counted.ts';
import type { FeedStorage } from '../model/feedStorage.ts';
import type { LaneState } from '../model/lanes.ts';
import type { Sampling } from '../model/sample.ts';
import { type QueueBacklog, readBacklog } from '../queues/backlog.ts';
import { readStats } from '../stats/table.ts';
import { aggregate, type ClusterTotals } from '../stats/totals.ts';
import { readLanes } from '../store/lanes.ts';
import type { WorkerRow } from '../store/processes.ts';
import { readSampling } from '../store/samples.ts';
import { readStorage } from './storage.ts';

export interface Component {
  readonly name: string;
  readonly kind: string;
  readonly version: string;
  readonly ready: boolean;
  readonly detail: string;
}

export interface ClusterStatus {
  readonly context: string;
  /**
   * Every component is ready and the live lane is not paused: a new post reaches feeds and sockets.
   */
  readonly ready: boolean;
  /** Why it is not ready, and what else is not ready. */
  readonly problems: readonly string[];
  readonly components: readonly Component[];
  readonly queues: readonly QueueBacklog[];
  /** Lanes of fan-out, with the ones that an operator has paused or throttled. */
  readonly lanes: readonly LaneState[];
  readonly workers: readonly WorkerState[];
  readonly gateways: readonly GatewayState[];
  /** Work of the running processes in the last second, minute, five minutes and hour. */
  readonly rates: ClusterTotals['rates'];
  /** Seconds that the rates are about, if a window is longer: the oldest process began then. */
  readonly countedSeconds: number;
  readonly tumblingEndedAt: ClusterTotals['tumblingEndedAt'];
  /** Latency from the commit of a post to the commit of its feed rows, over the same windows. */
  readonly latencyMs: ClusterTotals['latencyMs'];
  /** Feeds that workers and gateways compare with the database in the background. */
  readonly sampling: Sampling;
  /** Feed rows and disks, as a worker has measured them; null before the first measurement. */
  readonly storage: FeedStorage | null;
}

export type ClusterParts = Pick<Cluster, 'config' | 'db' | 'bus' | 'sharedCache'>;

/** Reads the state of all components with a few cheap queries. */
export async function clusterStatus(cluster: ClusterParts): Promise<ClusterStatus> {
  const { db, bus, config } = cluster;
  const server = await db.query<{ version: string; size: string }>(
    `select current_setting('server_version') as version,
            pg_size_pretty(pg_database_size(current_database())) as size`,
  );
  const { citusVersion, shards } = await db.sharding();
  const nodes = new Set(shards.map(({ node }) => `${node.host}:${node.port}`)).size;
  const workers = await workerStates(db);
  const gateways = await gatewayStates(db);
  const broker = await bus.health?.();
  const queues = (broker?.ready ?? true) ? await readBacklog(bus) : [];
  const dead = queues.reduce((sum, queue) => sum + queue.deadLetters, 0);
  const readyWorkers = workers.filter((worker) => worker.ready).length;
  const readyGateways = gateways.filter((gateway) => gateway.ready);
  const version = server.rows[0]!.version;
  const components: Component[] = [
    {
      name: 'database',
      kind: config.embedded ? 'embedded PostgreSQL' : citusVersion ? 'Citus' : 'PostgreSQL',
      version: citusVersion ? `${citusVersion} on ${version}` : version,
      ready: true,
      detail: [
        server.rows[0]!.size,
        ...(citusVersion ? [counted(nodes, 'node'), counted(shards.length, 'shard')] : []),
        withoutPassword(db.url),
      ].join(', '),
    },
    {
      name: 'bus',
      kind: bus.kind,
      version: broker?.version ?? version,
      ready: broker?.ready ?? true,
      detail: [
        ...(broker ? [broker.detail] : []),
        dead > 0 ? counted(dead, 'dead letter') : 'no dead letters',
      ].join(', '),
    },
    {
      name: 'cache',
      kind: cluster.sharedCache?.kind ?? 'memory',
      ...cacheComponent(cluster.sharedCache),
    },
    {
      name: 'workers',
      kind: 'worker',
      version: versions(workers),
      ready: readyWorkers > 0,
      detail: `${readyWorkers} of ${workers.length} ready`,
    },
    {
      name: 'gateways',
      kind: 'gateway',
      version: '',
      ready: readyGateways.length > 0,
      detail:
        gateways
          .map(
            ({ url, online, reason }) =>
              `${url} (${reason === null ? `${online} online` : `not ready: ${reason}`})`,
          )
          .join(', ') || 'none runs',
    },
  ];
  const { rates, countedSeconds, tumblingEndedAt, latencyMs } = aggregate(await readStats(db));
  const lanes = await readLanes(db);
  const livePaused = lanes.some(({ lane, paused }) => lane === 'live' && paused);
  return {
    context: config.context,
    // Without its cache the cluster is slower, but ready.
    ready: !livePaused && components.every((part) => part.ready || part.name === 'cache'),
    problems: [
      ...components.filter((part) => !part.ready).map(({ name, detail }) => `${name}: ${detail}`),
      ...(livePaused ? ['the live lane of fan-out is paused'] : []),
    ],
    components,
    queues,
    lanes,
    workers,
    gateways,
    rates,
    countedSeconds,
    tumblingEndedAt,
    latencyMs,
    sampling: await readSampling(db),
    storage: await readStorage(db, config),
  };
}

function cacheComponent(cache: FeedCache | undefined): Pick<Component, 'version' | 'ready' | 'detail'> {
  if (!cache) return { version: '', ready: true, detail: 'in the memory of each gateway' };
  const { server, fix, ...shown } = cache.health();
  return { ...shown, version: server === 'Valkey' ? `Valkey ${shown.version}` : shown.version };
}

const versions = (workers: readonly WorkerRow[]): string =>
  [...new Set(workers.map((worker) => worker.version))].join(', ');
