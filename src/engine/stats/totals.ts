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
/**
 * A process whose clock differs more from the database's uses the database's time, for its age to
 * be right.
 */
const MAX_CLOCK_SKEW_SECONDS = 10;

export interface WindowCount {
  readonly count: number;
  /** Over the part of the window in which the oldest process has counted. */
  readonly perSecond: number;
}

/** Counts of one kind in the windows of 1 s, 1 m, 5 m and 1 h. */
export interface Rate {
  /** The last whole seconds of that number. */
  readonly sliding: { readonly [window in WindowName]: WindowCount };
  /**
   * The last complete window that begins at a multiple of its length, in UTC; `endedAt` is in
   * `tumblingEndedAt`.
   */
  readonly tumbling: { readonly [window in WindowName]: WindowCount };
}

export interface Latency {
  readonly p50: number;
  readonly p99: number;
  /** Number of rows. */
  readonly rows: number;
}

/** A warning or an error of a process that reported within the last 15 s. */
export interface ClusterError extends ReportedError {
  readonly role: 'worker' | 'gateway' | 'both' | 'none';
  readonly host: string;
  readonly pid: number;
}

/** Sums over all processes that are alive. Counts of a process end with the process. */
export interface ClusterTotals {
  /** Processes with reports: roles of release 0.1 and older have none. */
  readonly processes: number;
  readonly rates: { readonly [rate in RateName]: Rate };
  /** Seconds in which the oldest process has counted, at most an hour. */
  readonly countedSeconds: number;
  readonly tumblingEndedAt: { readonly [window in WindowName]: string | null };
  /** Milliseconds from the commit of a live post to that of its feed rows; null without rows. */
  readonly latencyMs: { readonly [window in WindowName]: Latency | null };
  /** Counts of the last five minutes in steps, the oldest first. `endsAt`: end of the last step. */
  readonly series: { readonly [name in SeriesName]: readonly number[] } & {
    readonly stepSeconds: number;
    readonly endsAt: string | null;
  };
  readonly sockets: number;
  /**
   * Approximate, of the last whole minute: authors by planned rows, readers by pages read over
   * HTTP.
   */
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

/** Sums up the reports of all processes. */
export function aggregate(rows: readonly StatsRow[]): ClusterTotals {
  const reports = rows.map(withDatabaseClock);
  const newest = Math.max(...reports.map(({ at }) => at));
  const since = Math.min(...reports.map((one) => one.since));
  const sum = (of: (one: (typeof reports)[number]) => number) =>
    reports.reduce((total, one) => total + of(one), 0);
  const counted = (count: number, window: WindowName): WindowCount => ({
    count,
    perSecond: tenths(count / Math.max(1, Math.min(WINDOWS[window], newest - since))),
  });
  // The newest window that all have completed. A process that is too far behind has no counts of
  // it.
  const completed = byWindow((window) => {
    const ends = reports.map(({ at }) => Math.floor(at / WINDOWS[window]));
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
    countedSeconds: rows.length > 0 ? Math.max(0, Math.min(WINDOWS['1h'], Math.round(newest - since))) : 0,
    rates: Object.fromEntries(RATES.map((name) => [name, rate(name)])) as ClusterTotals['rates'],
    tumblingEndedAt: byWindow((window) =>
      rows.length > 0 ? iso(completed[window] * WINDOWS[window]) : null,
    ),
    latencyMs: byWindow((_, i) => {
      const counts = new Float64Array(LATENCY_BUCKETS);
      for (const { latency } of reports)
        for (const [bucket, count] of latency[i] ?? []) if (bucket in counts) counts[bucket]! += count;
      const [p50, p99] = [quantile(counts, 0.5), quantile(counts, 0.99)];
      if (p50 === null || p99 === null) return null;
      return { p50, p99, rows: counts.reduce((total, count) => total + count, 0) };
    }),
    series: addSeries(reports, newest),
    sockets: rows.reduce((total, row) => total + (row.sockets ?? 0), 0),
    hotAuthors: hottest(reports.flatMap(({ authors }) => authors)).map(([userId, rows]) => ({
      userId,
      rows,
    })),
    hotReaders: hottest(reports.flatMap(({ readers }) => readers)).map(([userId, pages]) => ({
      userId,
      pages,
    })),
    errors: clusterErrors(rows),
  };
}

/** Replaces a wrong clock by the database's. Tumbling windows stay those of the process. */
function withDatabaseClock({ figures, seenAt }: StatsRow): StatsRow['figures'] {
  const off = Math.round(seenAt - figures.at);
  if (Math.abs(off) <= MAX_CLOCK_SKEW_SECONDS) return figures;
  return { ...figures, at: figures.at + off, since: figures.since + off };
}

/** Adds steps of the same time, although reports of some processes end a step earlier. */
function addSeries(reports: readonly StatsRow['figures'][], newest: number): ClusterTotals['series'] {
  const last = Math.floor(newest / STEP_SECONDS);
  const total = (name: SeriesName) => {
    const sums = Array.from({ length: REPORTED_STEPS }, () => 0);
    for (const { at, series } of reports) {
      const behind = last - Math.floor(at / STEP_SECONDS);
      for (const [i, count] of (series[name] ?? []).entries())
        if (i - behind >= 0) sums[i - behind]! += count;
    }
    return sums;
  };
  return {
    ...(Object.fromEntries(SERIES.map((name) => [name, total(name)])) as Record<SeriesName, number[]>),
    stepSeconds: STEP_SECONDS,
    endsAt: reports.length > 0 ? iso(last * STEP_SECONDS) : null,
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
      return errors.map((error) => ({ ...error, role, host, pid }));
    })
    .sort((a, b) => (a.lastAt < b.lastAt ? 1 : -1))
    .slice(0, MAX_ERRORS);
