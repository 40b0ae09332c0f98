import { messagesIn } from '../../bus/depths.ts';
import { type GatewayState, isAlive } from '../../fleet/gateways.ts';
import type { RegisteredWorker, WorkerState } from '../../fleet/workers.ts';
import type { LaneState } from '../../model/lanes.ts';
import type { OperationRow } from '../../operations/table.ts';
import type { QueueRow } from '../../queues/list.ts';
import type { NodeShards, ShardList } from '../../shards/list.ts';
import type { ActiveMove } from '../../shards/sql.ts';
import { RATES, type RateName } from '../../stats/process.ts';
import { type StatsRow, UNKNOWN_WORKER, workerStatsOf } from '../../stats/table.ts';
import { aggregate, type ClusterTotals } from '../../stats/totals.ts';
import { WINDOW_NAMES, WINDOWS, type WindowName } from '../../stats/windows.ts';
import type { Celebrity } from '../../store/celebrities.ts';
import type { GatewayRow } from '../../store/processes.ts';
import type { SourceState } from './source.ts';

/** Past these somebody should look: the mission's limits for scaling out and alerting. */
const MAX_WAITING = 10_000;
const MOST_P99_MS = 5_000;
const IN_PASSING_SECONDS = 2;

/** What a process does beside its registration; null where it has told nothing lately. */
interface Work {
  /** A second, over each sliding window. */
  readonly perSecond: { readonly [rate in RateName]?: { readonly [window in WindowName]: number } };
  /** Of one core. */
  readonly cpu: number;
  readonly memoryBytes: number;
}

export type TopWorker = WorkerState & { readonly work: Work | null };
export type TopGateway = GatewayState & { readonly sockets: number | null; readonly work: Work | null };

export interface TopCache {
  readonly kind: string;
  /** Gateways that can use it, and all that tell of it. */
  readonly readyAt: number;
  readonly of: number;
  /** Of reads since the gateways started; null where there were none. */
  readonly hitRate: number | null;
}

export interface TopHealth {
  /** `down`: a post made now does not get to feeds and sockets, or nobody knows. `degraded`: somebody should look. */
  readonly state: 'ok' | 'degraded' | 'down';
  /** The worst first. */
  readonly problems: readonly string[];
}

export interface TopBacklog {
  /** Messages that wait or are in hand, in all queues. */
  readonly messages: number;
  /** Until the queue that takes longest is empty, 0 where all keep up with what comes; null where one does not get shorter, or that is not known yet. */
  readonly etaSeconds: number | null;
  /** One of them does not get shorter, or is paused. */
  readonly stuck: boolean;
  readonly deadLetters: number;
  /** Age of the oldest message; null where the bus cannot tell. */
  readonly oldestAgeMs: number | null;
}

/** Everything `top` shows. What is null was never answered; `sources` say how old the rest is. */
export interface TopSnapshot {
  readonly takenAt: string;
  readonly context: string;
  readonly production: boolean;
  readonly bus: string | null;
  readonly health: TopHealth;
  readonly figures: ClusterTotals | null;
  readonly backlog: TopBacklog | null;
  /** Messages in all queues, every five seconds since this `top` began, the oldest first. */
  readonly backlogSeries: readonly number[];
  readonly cache: TopCache | null;
  readonly queues: readonly QueueRow[] | null;
  readonly lanes: readonly LaneState[] | null;
  readonly workers: readonly TopWorker[] | null;
  readonly gateways: readonly TopGateway[] | null;
  /** Not distributed: empty. */
  readonly shards: ShardList | null;
  /** Of shards, under way. */
  readonly moves: readonly ActiveMove[] | null;
  readonly celebrities: readonly Celebrity[] | null;
  readonly operations: readonly OperationRow[] | null;
  readonly sources: readonly SourceState[];
}

/** What the sources answered last. */
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

/** Puts together what is known. */
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
      const told = byRole.get(row.id);
      if (!told) return quietWorker(row);
      return { ...row, ...workerStatsOf(told.memoryBytes, told.figures.worker), work: workOf(told) };
    }) ?? null;
  const gateways =
    known.gateways?.map((row) => {
      const told = byRole.get(row.id);
      // As it says itself: to ask each of them over HTTP, as `status` does, is more than a look every second should cost.
      const ready = isAlive(row) && told?.figures.live !== false;
      return { ...row, ready, sockets: told?.sockets ?? null, work: workOf(told) };
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
    sources,
  };
}

/** The row itself: 10,000 new ones a second would cost more than all the rest. */
const quietWorker = (row: RegisteredWorker & { readonly work?: null }): TopWorker =>
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
        return [window, Math.round((counts[i]! * 10) / seconds) / 10];
      });
      return [[rate, Object.fromEntries(rates)]];
    }),
  );
  return { perSecond, cpu, memoryBytes };
}

/** What is in it comes and goes within seconds: that there is a little more than at the look before means nothing. */
export const keepsUp = (queue: QueueRow): boolean =>
  !queue.paused &&
  messagesIn(queue) > 0 &&
  messagesIn(queue) <= (queue.outPerSecond ?? 0) * IN_PASSING_SECONDS;

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
  const told = rows.flatMap(({ figures }) => figures.cache ?? []);
  if (told.length === 0) return null;
  const sum = (of: 'hits' | 'misses') => told.reduce((total, one) => total + one[of], 0);
  const asked = sum('hits') + sum('misses');
  return {
    kind: told[0]!.kind,
    readyAt: told.filter(({ ready }) => ready).length,
    of: told.length,
    hitRate: asked > 0 ? sum('hits') / asked : null,
  };
}

/** Many would leave no room for what is wrong; `sources` has them. */
const MAX_NAMED = 2;
const namesOf = (some: readonly { name: string }[], all: readonly unknown[]): string => {
  if (some.length === all.length) return 'all sources';
  return some.length > MAX_NAMED ? `${some.length} sources` : some.map(({ name }) => name).join(', ');
};

function healthOf(parts: {
  figures: ClusterTotals | null;
  backlog: TopBacklog | null;
  cache: TopCache | null;
  workers: readonly TopWorker[] | null;
  gateways: readonly TopGateway[] | null;
  known: Known;
  sources: readonly SourceState[];
}): TopHealth {
  const { figures, backlog, cache, workers, gateways, known, sources } = parts;
  const down: string[] = [];
  const degraded: string[] = [];
  // One dependency that is away fails several sources: it is named once.
  const faults = sources.flatMap(({ name, error }) => (error ? [{ name, ...error }] : []));
  for (const [code, of] of Map.groupBy(faults, (fault) => fault.code))
    down.push(`${code} (${namesOf(of, sources)}): ${of[0]!.message}`);
  const awaited = sources.filter(({ ageMs, error }) => ageMs === null && !error);
  if (awaited.length > 0) down.push(`no answer yet: ${namesOf(awaited, sources)}`);
  for (const { lane, paused, throttled } of known.lanes ?? []) {
    if (paused) (lane === 'live' ? down : degraded).push(`the ${lane} lane is paused by ${paused.by}`);
    else if (throttled)
      degraded.push(
        `the ${lane} lane is slowed down to ${throttled.rowsPerSecond} rows/s by ${throttled.by}`,
      );
  }
  const ready = (rows: readonly { ready: boolean }[]) => rows.filter((row) => row.ready).length;
  for (const [name, rows] of [
    ['worker', workers],
    ['gateway', gateways],
  ] as const) {
    if (!rows) continue;
    const of = rows.length;
    if (ready(rows) === 0) down.push(of === 0 ? `no ${name} runs` : `none of ${of} ${name}(s) is ready`);
    else if (ready(rows) < of) degraded.push(`${of - ready(rows)} of ${of} ${name}(s) not ready`);
  }
  for (const { node, version, active } of known.shards?.nodes ?? ([] as NodeShards[]))
    if (version === null || !active)
      down.push(`the database node ${node} ${active ? 'does not answer' : 'is not active'}`);
  if (backlog && backlog.messages > MAX_WAITING) degraded.push(`${backlog.messages} messages wait`);
  const p99 = figures?.latencyMs['1m']?.p99 ?? 0;
  if (p99 > MOST_P99_MS) degraded.push(`one post in a hundred takes ${(p99 / 1_000).toFixed(1)} s to feeds`);
  if (backlog && backlog.deadLetters > 0) degraded.push(`${backlog.deadLetters} dead letter(s)`);
  if (cache && cache.readyAt < cache.of)
    degraded.push(`the cache is away for ${cache.of - cache.readyAt} of ${cache.of} gateway(s)`);
  return {
    state: down.length > 0 ? 'down' : degraded.length > 0 ? 'degraded' : 'ok',
    problems: [...down, ...degraded],
  };
}
