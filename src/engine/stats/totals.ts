import { tenths } from '../util/numbers.ts';
import { LATENCY_BUCKETS, quantile } from './latency.ts';
import {
  RATES,
  type RateName,
  REPORTED_STEPS,
  type ReportedError,
  SERIES,
  type SeriesName,
  STEP_SECONDS,
} from './process.ts';
import type { StatsRow } from './table.ts';
import { COMPLETED_WINDOWS, WINDOW_NAMES, WINDOWS, type WindowName } from './windows.ts';

const MAX_HITTERS = 20;
const MAX_ERRORS = 200;
/** A process whose clock is off by more seconds than this has the database's time: else all others would be long ago. */
const MAX_CLOCK_SKEW_SECONDS = 10;

export interface WindowCount {
  readonly count: number;
  /** Over as much of the window as the oldest process has counted. */
  readonly perSecond: number;
}

/** What one kind of thing did in the windows of 1 s, 1 m, 5 m and 1 h. */
export interface Rate {
  /** The last whole seconds. */
  readonly sliding: { readonly [window in WindowName]: WindowCount };
  /** The last complete window that begins at a multiple of its length, in UTC; `endedAt` is in `tumblingEndedAt`. */
  readonly tumbling: { readonly [window in WindowName]: WindowCount };
}

export interface Latency {
  readonly p50: number;
  readonly p99: number;
  /** Rows that these are of. */
  readonly rows: number;
}

/** A warning or an error of a process that runs, or ran within the last quarter of a minute. */
export interface ClusterError extends ReportedError {
  readonly role: 'worker' | 'gateway' | 'both' | 'none';
  readonly host: string;
  readonly pid: number;
}

/** What all processes that are heard of did, added up. What a process did that is gone is gone with it. */
export interface ClusterTotals {
  /** Processes that count: roles of release 0.1 and older do not. */
  readonly processes: number;
  readonly rates: { readonly [rate in RateName]: Rate };
  readonly tumblingEndedAt: { readonly [window in WindowName]: string | null };
  /** Of the live lane, from the commit of a post to that of its feed rows, in milliseconds; null where no row was written. */
  readonly latencyMs: { readonly [window in WindowName]: Latency | null };
  /** Counts of the last five minutes in steps of so many seconds, the oldest first, `endsAt` the end of the last. */
  readonly series: { readonly [name in SeriesName]: readonly number[] } & {
    readonly stepSeconds: number;
    readonly endsAt: string | null;
  };
  readonly sockets: number;
  /** Of the last whole minute, about: authors by planned rows, readers by pages read over HTTP. */
  readonly hotAuthors: readonly { readonly userId: number; readonly rows: number }[];
  readonly hotReaders: readonly { readonly userId: number; readonly pages: number }[];
  /** The newest first. */
  readonly errors: readonly ClusterError[];
}

const byWindow = <T>(of: (window: WindowName, index: number) => T): { [window in WindowName]: T } =>
  Object.fromEntries(WINDOW_NAMES.map((window, index) => [window, of(window, index)])) as {
    [window in WindowName]: T;
  };
const iso = (seconds: number): string => new Date(seconds * 1_000).toISOString();

export function aggregate(rows: readonly StatsRow[]): ClusterTotals {
  const told = rows.map(withDatabaseClock);
  const newest = Math.max(...told.map(({ at }) => at));
  const since = Math.min(...told.map((one) => one.since));
  const sum = (of: (one: (typeof told)[number]) => number) => told.reduce((total, one) => total + of(one), 0);
  const counted = (count: number, window: WindowName): WindowCount => ({
    count,
    perSecond: tenths(count / Math.max(1, Math.min(WINDOWS[window], newest - since))),
  });
  // The newest window that all have completed; whoever is further behind than is remembered has none of it.
  const completed = byWindow((window) => {
    const ends = told.map(({ at }) => Math.floor(at / WINDOWS[window]));
    return Math.max(Math.min(...ends), Math.max(...ends) - COMPLETED_WINDOWS + 1);
  });
  const rate = (name: RateName): Rate => ({
    sliding: byWindow((window, i) =>
      counted(
        sum((one) => one.sliding[name]?.[i] ?? 0),
        window,
      ),
    ),
    tumbling: byWindow((window, i) => {
      const back = (at: number) => Math.floor(at / WINDOWS[window]) - completed[window];
      const count = sum((one) => one.tumbling[name]?.[i]?.[back(one.at)] ?? 0);
      return { count, perSecond: tenths(count / WINDOWS[window]) };
    }),
  });
  return {
    processes: rows.length,
    rates: Object.fromEntries(RATES.map((name) => [name, rate(name)])) as ClusterTotals['rates'],
    tumblingEndedAt: byWindow((window) =>
      rows.length > 0 ? iso(completed[window] * WINDOWS[window]) : null,
    ),
    latencyMs: byWindow((_, i) => {
      const counts = new Float64Array(LATENCY_BUCKETS);
      for (const { latency } of told)
        for (const [bucket, count] of latency[i] ?? []) if (bucket in counts) counts[bucket]! += count;
      const [p50, p99] = [quantile(counts, 0.5), quantile(counts, 0.99)];
      if (p50 === null || p99 === null) return null;
      return { p50, p99, rows: counts.reduce((total, count) => total + count, 0) };
    }),
    series: addSeries(told, newest),
    sockets: rows.reduce((total, row) => total + (row.sockets ?? 0), 0),
    hotAuthors: hottest(told.flatMap(({ authors }) => authors)).map(([userId, rows]) => ({ userId, rows })),
    hotReaders: hottest(told.flatMap(({ readers }) => readers)).map(([userId, pages]) => ({ userId, pages })),
    errors: clusterErrors(rows),
  };
}

/** Its tumbling windows stay those of its own clock. */
function withDatabaseClock({ figures, seenAt }: StatsRow): StatsRow['figures'] {
  const off = Math.round(seenAt - figures.at);
  if (Math.abs(off) <= MAX_CLOCK_SKEW_SECONDS) return figures;
  return { ...figures, at: figures.at + off, since: figures.since + off };
}

/** Those that trail by a step are of the same time all the same: each tells when its last step ended. */
function addSeries(told: readonly StatsRow['figures'][], newest: number): ClusterTotals['series'] {
  const last = Math.floor(newest / STEP_SECONDS);
  const total = (name: SeriesName) => {
    const sums = Array.from({ length: REPORTED_STEPS }, () => 0);
    for (const { at, series } of told) {
      const behind = last - Math.floor(at / STEP_SECONDS);
      for (const [i, count] of (series[name] ?? []).entries())
        if (i - behind >= 0) sums[i - behind]! += count;
    }
    return sums;
  };
  return {
    ...(Object.fromEntries(SERIES.map((name) => [name, total(name)])) as Record<SeriesName, number[]>),
    stepSeconds: STEP_SECONDS,
    endsAt: told.length > 0 ? iso(last * STEP_SECONDS) : null,
  };
}

function hottest(seen: readonly (readonly [number, number])[]): [number, number][] {
  const totals = new Map<number, number>();
  for (const [userId, count] of seen) totals.set(userId, (totals.get(userId) ?? 0) + count);
  return [...totals].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, MAX_HITTERS);
}

const clusterErrors = (rows: readonly StatsRow[]): ClusterError[] =>
  rows
    .flatMap(({ worker, gateway, host, pid, errors }) => {
      const role: ClusterError['role'] =
        worker && gateway ? 'both' : worker ? 'worker' : gateway ? 'gateway' : 'none';
      return errors.map((note) => ({ ...note, role, host, pid }));
    })
    .sort((a, b) => (a.lastAt < b.lastAt ? 1 : -1))
    .slice(0, MAX_ERRORS);
