import { messagesIn } from '../../bus/depths.ts';
import { isAlive } from '../../fleet/gateways.ts';
import type { RegisteredWorker, WorkerState } from '../../fleet/workers.ts';
import type { FeedStorage } from '../../model/feedStorage.ts';
import type { LaneState } from '../../model/lanes.ts';
import type { Sampling } from '../../model/sample.ts';
import type { OperationRow } from '../../operations/table.ts';
import type { QueueRow } from '../../queues/list.ts';
import type { ShardList } from '../../shards/list.ts';
import type { ActiveMove } from '../../shards/sql.ts';
import { RATES, type RateName } from '../../stats/process.ts';
import { type StatsRow, UNKNOWN_WORKER, workerStatsOf } from '../../stats/table.ts';
import { aggregate, type ClusterTotals } from '../../stats/totals.ts';
import { WINDOW_NAMES, WINDOWS, type WindowName } from '../../stats/windows.ts';
import type { Celebrity } from '../../store/celebrities.ts';
import type { GatewayRow } from '../../store/processes.ts';
import { tenths } from '../../util/numbers.ts';
import type { DatabaseActivity } from './database.ts';
import type { TopEvent } from './events.ts';
import { healthOf, type TopHealth } from './health.ts';
import type { MachineActivity } from './machine.ts';
import type { SourceState } from './source.ts';

/** A queue that a worker empties within 2 s keeps up. */
const KEEPS_UP_SECONDS = 2;

/** Statistics that a process reports besides its registration. */
interface Work {
  /** Counts a second, over each sliding window. */
  readonly perSecond: { readonly [rate in RateName]?: { readonly [window in WindowName]: number } };
  /** Share of one core. */
  readonly cpu: number;
  readonly memoryBytes: number;
}

export type TopWorker = WorkerState & { readonly work: Work | null };
export type TopGateway = GatewayRow & {
  readonly ready: boolean;
  readonly sockets: number | null;
  readonly work: Work | null;
};

export interface TopCache {
  readonly kind: string;
  /** Gateways that can use it, and all gateways that report. */
  readonly readyAt: number;
  readonly of: number;
  /** Share of reads since the gateways started; null before the first. */
  readonly hitRate: number | null;
}

export interface TopBacklog {
  /** Messages that wait or are in flight, in all queues. */
  readonly messages: number;
  /**
   * Time until the slowest queue is empty. 0 where all keep up; null where one does not get
   * shorter, or the rate is not yet known.
   */
  readonly etaSeconds: number | null;
  /** A queue does not get shorter, or is paused. */
  readonly stuck: boolean;
  readonly deadLetters: number;
  /** Age of the oldest message; null where the bus does not know it. */
  readonly oldestAgeMs: number | null;
}

/**
 * Everything that `top` shows. A null has never been answered; `sources` have the age of the rest.
 */
export interface TopSnapshot {
  readonly takenAt: string;
  readonly context: string;
  readonly production: boolean;
  readonly bus: string | null;
  readonly health: TopHealth;
  readonly figures: ClusterTotals | null;
  readonly backlog: TopBacklog | null;
  /** Messages in all queues, one value in 5 s since this `top` began, the oldest first. */
  readonly backlogSeries: readonly number[];
  readonly cache: TopCache | null;
  readonly queues: readonly QueueRow[] | null;
  readonly lanes: readonly LaneState[] | null;
  readonly workers: readonly TopWorker[] | null;
  readonly gateways: readonly TopGateway[] | null;
  /** Empty where the database is not distributed. */
  readonly shards: ShardList | null;
  /** Moves of shards in progress. */
  readonly moves: readonly ActiveMove[] | null;
  readonly celebrities: readonly Celebrity[] | null;
  readonly operations: readonly OperationRow[] | null;
  /** Feeds that workers and gateways compare with the database in the background. */
  readonly sampling: Sampling | null;
  /** Feed rows and disks, as a worker has measured them. */
  readonly storage: FeedStorage | null;
  /** The database server; null until its pane is shown. */
  readonly database: DatabaseActivity | null;
  /** The machine of this `top`; null until its pane is shown. */
  readonly machine: MachineActivity | null;
  /** The last events, the newest first; null until their pane is shown. */
  readonly events: readonly TopEvent[] | null;
  readonly sources: readonly SourceState[];
}

/** The last answers of the sources. */
export interface Known {
  readonly figures?: readonly StatsRow[] | undefined;
  readonly queues?: readonly QueueRow[] | undefined;
  readonly lanes?: readonly LaneState[] | undefined;
  readonly outbox?: boolean | undefined;
  readonly workers?: readonly RegisteredWorker[] | undefined;
  readonly gateways?: readonly GatewayRow[] | undefined;
  readonly shards?: ShardList | undefined;
  readonly moves?: readonly ActiveMove[] | undefined;
  readonly celebrities?: readonly Celebrity[] | undefined;
  readonly operations?: readonly OperationRow[] | undefined;
  readonly sampling?: Sampling | undefined;
  readonly storage?: FeedStorage | null | undefined;
  readonly database?: DatabaseActivity | undefined;
  readonly machine?: MachineActivity | undefined;
  readonly events?: readonly TopEvent[] | undefined;
}

interface Taken {
  readonly context: string;
  readonly production: boolean;
  readonly bus: string | undefined;
  readonly known: Known;
  readonly sources: readonly SourceState[];
  readonly backlogSeries: readonly number[];
  readonly at?: Date;
}

/** Makes a snapshot of the last answers. */
export function snapshotOf(taken: Taken): TopSnapshot {
  const { known, sources } = taken;
  const { queues, shards, celebrities, operations, lanes } = known;
  const backlog = queues ? backlogOf(queues) : null;
  const figures = known.figures ? aggregate(known.figures) : null;
  const cache = cacheOf(known.figures ?? []);
  const byRole = new Map(
    known.figures?.flatMap((row) => [row.worker, row.gateway].map((id) => [id, row] as const)),
  );
  const workers =
    known.workers?.map((row) => {
      const stats = byRole.get(row.id);
      if (!stats) return withoutWork(row);
      return { ...row, ...workerStatsOf(stats.memoryBytes, stats.figures.worker), work: workOf(stats) };
    }) ?? null;
  const gateways =
    known.gateways?.map((row) => {
      const stats = byRole.get(row.id);
      // As the gateway reports it. `status` asks each over HTTP, which is too costly every second.
      const ready = isAlive(row) && stats?.figures.live !== false;
      return { ...row, ready, sockets: stats?.sockets ?? null, work: workOf(stats) };
    }) ?? null;
  const parts = { figures, backlog, cache, workers, gateways, known, sources };
  return {
    takenAt: (taken.at ?? new Date()).toISOString(),
    context: taken.context,
    production: taken.production,
    bus: taken.bus ?? null,
    health: healthOf(parts),
    figures,
    backlog,
    backlogSeries: taken.backlogSeries,
    cache,
    queues: queues ?? null,
    lanes: lanes ?? null,
    workers,
    gateways,
    shards: shards ?? null,
    moves: known.moves ?? null,
    celebrities: celebrities ?? null,
    operations: operations ?? null,
    sampling: known.sampling ?? null,
    storage: known.storage ?? null,
    database: known.database ?? null,
    machine: known.machine ?? null,
    events: known.events ?? null,
    sources,
  };
}

/**
 * Returns the row itself: 10,000 new objects a second would cost more than the rest of a snapshot.
 */
const withoutWork = (row: RegisteredWorker & { readonly work?: null }): TopWorker =>
  row.work === null ? (row as TopWorker) : Object.assign(row, UNKNOWN_WORKER, { work: null });

function workOf(row: StatsRow | undefined): Work | null {
  if (!row) return null;
  const { figures, cpu, memoryBytes } = row;
  const perSecond = Object.fromEntries(
    RATES.flatMap((rate) => {
      const counts = figures.sliding[rate];
      if (!counts) return [];
      const rates = WINDOW_NAMES.map((window, i) => {
        const seconds = Math.max(1, Math.min(WINDOWS[window], figures.at - figures.since));
        return [window, tenths(counts[i]! / seconds)];
      });
      return [[rate, Object.fromEntries(rates)]];
    }),
  );
  return { perSecond, cpu, memoryBytes };
}

/**
 * Returns whether a queue is emptied within 2 s at its rate. It may be a little longer than before
 * without being stuck.
 */
export const keepsUp = (queue: QueueRow): boolean =>
  !queue.paused && messagesIn(queue) > 0 && messagesIn(queue) <= (queue.outPerSecond ?? 0) * KEEPS_UP_SECONDS;

function backlogOf(queues: readonly QueueRow[]): TopBacklog {
  const busy = queues.filter((queue) => messagesIn(queue) > 0);
  const late = busy.filter((queue) => !keepsUp(queue));
  const etas = late.map((queue) => (queue.paused ? null : queue.etaSeconds));
  const ages = busy.map((queue) => queue.oldestAgeMs);
  return {
    messages: queues.reduce((sum, queue) => sum + messagesIn(queue), 0),
    etaSeconds: etas.includes(null) ? null : Math.max(0, ...(etas as number[])),
    stuck: late.some((queue) => queue.paused || (queue.etaSeconds === null && queue.inPerSecond !== null)),
    deadLetters: queues.reduce((sum, queue) => sum + queue.deadLetters, 0),
    oldestAgeMs: ages.includes(null) ? null : Math.max(0, ...(ages as number[])),
  };
}

function cacheOf(rows: readonly StatsRow[]): TopCache | null {
  const caches = rows.flatMap(({ figures }) => figures.cache ?? []);
  if (caches.length === 0) return null;
  const sum = (of: 'hits' | 'misses') => caches.reduce((total, one) => total + one[of], 0);
  const reads = sum('hits') + sum('misses');
  return {
    kind: caches[0]!.kind,
    readyAt: caches.filter(({ ready }) => ready).length,
    of: caches.length,
    hitRate: reads > 0 ? sum('hits') / reads : null,
  };
}
