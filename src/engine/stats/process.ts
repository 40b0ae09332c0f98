import { messageOf } from '../model/errors.ts';
import type { Log } from '../telemetry/log.ts';
import { HeavyHitters } from '../util/heavyHitters.ts';
import { bucketOf, LATENCY_BUCKETS } from './latency.ts';
import { WINDOW_NAMES, type WindowName, Windows } from './windows.ts';

/**
 * Counts of a process:
 *
 *     created     posts committed by requests to a gateway, without those of commands and imports
 *     planned     posts planned, from any source; a post for the bulk lane counts once, there
 *     merged      planned posts that are merged at read time
 *     deliveries  feed rows written for the first time
 *     pushed      posts sent to sockets
 *     errors      warnings and errors logged
 */
export const RATES = ['created', 'planned', 'merged', 'deliveries', 'pushed', 'errors'] as const;
export type RateName = (typeof RATES)[number];

/** Counts of which the last five minutes are reported in steps. */
export const SERIES = ['created', 'planned', 'deliveries', 'pushed', 'errors'] as const;
export type SeriesName = (typeof SERIES)[number];
export const STEP_SECONDS = 5;
export const REPORTED_STEPS = 60;

const MAX_ERRORS = 20;
const MAX_TEXT = 200;
const REPORTED_HITTERS = 10;
/** Tracked users. Every user with more than 1/64 of a minute's count is among them. */
const TRACKED_HITTERS = 64;

/** A warning or an error. A repetition while it is among the last twenty raises its count. */
export interface ReportedError {
  readonly level: 'warn' | 'error';
  /** A code of docs/errors.md, if the cause had one. */
  readonly code: string | null;
  readonly text: string;
  readonly count: number;
  readonly firstAt: string;
  readonly lastAt: string;
}

/**
 * A report is written once a second, so it has short names and no zeros. Times are unix seconds,
 * counts by window are in the order of WINDOW_NAMES.
 */
export interface StatsReport {
  /** End of the last whole second. */
  readonly at: number;
  /** Start of counting. */
  readonly since: number;
  readonly sliding: Partial<Record<RateName, readonly number[]>>;
  /** Counts of the last complete windows, the newest first. */
  readonly tumbling: Partial<Record<RateName, readonly (readonly number[])[]>>;
  readonly series: Partial<Record<SeriesName, readonly number[]>>;
  /** Live rows by latency over sliding windows: for each window pairs of bucket and count. */
  readonly latency: readonly (readonly (readonly [number, number])[])[];
  /** Approximate counts of the last whole minute: rows planned by author, pages read by reader. */
  readonly authors: readonly (readonly [number, number])[];
  readonly readers: readonly (readonly [number, number])[];
  /** Gateways only: posts arrive live, and every open socket has all earlier ones. */
  readonly live?: boolean | undefined;
  /** Gateways only. */
  readonly cache?: CacheCounters | undefined;
  /** Cached feeds that were compared with the database since the start. Missing: none. */
  readonly sampled?: number | undefined;
  /** Workers only. Missing in reports of older releases. */
  readonly worker?: WorkerCounters | undefined;
}

/** Counts since the gateway started. */
export interface CacheCounters {
  readonly kind: string;
  readonly ready: boolean;
  readonly hits: number;
  readonly misses: number;
  /** Missing in reports of older releases, as `failures` is. */
  readonly refills?: number;
  readonly failures?: number;
}

export interface WorkerCounters {
  /** Since the worker started. */
  readonly rowsWritten: number;
  /** Over the last whole step of five seconds; null before the first step has ended. */
  readonly rowsPerSecond: number | null;
  /** Slowest live delivery of the last five to ten seconds; null without a delivery. */
  readonly lagMs: number | null;
}

/** An error of the log; times in unix milliseconds. */
interface LoggedError extends Omit<ReportedError, 'firstAt' | 'lastAt'> {
  readonly firstAt: number;
  readonly lastAt: number;
}

/** Recent counts of one process, in memory: a few microseconds a batch, and 1.5 MB. */
export class ProcessStats {
  readonly #counts: Windows;
  readonly #latency: Windows;
  readonly #now: () => number;
  readonly #errors: LoggedError[] = [];
  readonly #authors: MinuteHitters;
  readonly #readers: MinuteHitters;
  readonly #slowest: RecentMaximum;
  /** Number of changes of the errors. */
  errorsVersion = 0;
  /** Number of cached feeds that this process has compared with the database. */
  sampled = 0;

  /** `now`: unix milliseconds; `steady`: milliseconds of a monotonic clock. */
  constructor(now: () => number = Date.now, steady: () => number = now) {
    this.#now = now;
    this.#counts = new Windows(RATES.length, now, steady);
    this.#latency = new Windows(LATENCY_BUCKETS, now, steady);
    this.#authors = new MinuteHitters(now);
    this.#readers = new MinuteHitters(now);
    this.#slowest = new RecentMaximum(steady);
  }

  count(rate: RateName, by: number): void {
    if (by > 0) this.#counts.add(RATES.indexOf(rate), by);
  }

  /** Records new live rows that were committed `ms` after their post. */
  recordLatency(ms: number, rows: number): void {
    if (rows <= 0) return;
    this.#latency.add(bucketOf(ms), rows);
    this.#slowest.add(ms);
  }

  recordPlanned(authorId: number, rows: number): void {
    this.#authors.saw(authorId, rows);
  }

  recordRead(userId: number): void {
    this.#readers.saw(userId, 1);
  }

  /** Removes an erased user from the hitters. */
  forget(userId: number): void {
    this.#authors.forget(userId);
    this.#readers.forget(userId);
  }

  /** Returns the log, whose warnings and errors are recorded too. */
  watchLog(log: Log): Log {
    return {
      ...log,
      warn: (fields, message) => {
        this.#recordError('warn', fields, message);
        log.warn(fields, message);
      },
      error: (fields, message) => {
        this.#recordError('error', fields, message);
        log.error(fields, message);
      },
    };
  }

  #recordError(level: 'warn' | 'error', fields: object, message: string): void {
    const { reason, code, queue, task } = fields as Record<string, unknown>;
    const details = [queue ?? task, reason === undefined ? undefined : messageOf(reason)];
    const text = [message, ...details.filter((part) => part !== undefined)].join(': ').slice(0, MAX_TEXT);
    this.count('errors', 1);
    this.errorsVersion += 1;
    const lastAt = this.#now();
    const known = this.#errors.findIndex((one) => one.text === text && one.level === level);
    const [before] = known >= 0 ? this.#errors.splice(known, 1) : [];
    const { firstAt, count } = before ?? { firstAt: lastAt, count: 0 };
    const codeText = typeof code === 'string' ? code : null;
    this.#errors.unshift({ level, code: codeText, text, count: count + 1, firstAt, lastAt });
    this.#errors.splice(MAX_ERRORS);
  }

  /** The newest first. */
  get errors(): ReportedError[] {
    const iso = (ms: number) => new Date(ms).toISOString();
    return this.#errors.map((error) => {
      return { ...error, firstAt: iso(error.firstAt), lastAt: iso(error.lastAt) };
    });
  }

  /**
   * Counters of the worker in this process. `rowsWritten`: since it started. The rate is that of the
   * last whole step, and before the end of the first step that of all seconds so far.
   */
  workerCounters(rowsWritten: number): WorkerCounters {
    const { second, since } = this.#counts;
    const seconds = Math.min(STEP_SECONDS, second - (second % STEP_SECONDS) - since);
    const [rows = 0] = this.#counts.series(RATES.indexOf('deliveries'), STEP_SECONDS, 1);
    return {
      rowsWritten,
      rowsPerSecond: seconds > 0 ? rows / seconds : rowsWritten / Math.max(1, second - since),
      lagMs: this.#slowest.value,
    };
  }

  report(): StatsReport {
    const at = this.#counts.second;
    const counts = (window: WindowName) => this.#counts.sliding(window);
    const sliding = WINDOW_NAMES.map(counts);
    const complete = WINDOW_NAMES.map((window) => this.#counts.tumbling(window));
    const byRate = <T>(
      names: readonly RateName[],
      of: (index: number) => T,
      isNothing: (value: T) => boolean,
    ) =>
      Object.fromEntries(
        names
          .map((name) => [name, of(RATES.indexOf(name))] as const)
          .filter(([, value]) => !isNothing(value)),
      );
    return {
      at,
      since: this.#counts.since,
      sliding: byRate(
        RATES,
        (i) => sliding.map((sums) => sums[i]!),
        (sums) => sums.every((sum) => sum === 0),
      ),
      tumbling: byRate(
        RATES,
        (i) => complete.map((windows) => windows.map((sums) => sums[i]!)),
        (windows) => windows.flat().every((sum) => sum === 0),
      ),
      series: byRate(
        SERIES,
        (i) => this.#counts.series(i, STEP_SECONDS, REPORTED_STEPS),
        (steps) => steps.every((sum) => sum === 0),
      ),
      latency: WINDOW_NAMES.map((window) =>
        [...this.#latency.sliding(window)].flatMap((count, bucket) =>
          count > 0 ? [[bucket, count] as const] : [],
        ),
      ),
      authors: this.#authors.last(),
      readers: this.#readers.last(),
      ...(this.sampled > 0 && { sampled: this.sampled }),
    };
  }
}

/** Maximum of the values of the current step of five seconds and of the step before it. */
class RecentMaximum {
  readonly #steady: () => number;
  #step = 0;
  #previous: number | null = null;
  #current: number | null = null;

  constructor(steady: () => number) {
    this.#steady = steady;
  }

  add(value: number): void {
    this.#advance();
    this.#current = Math.max(this.#current ?? 0, value);
  }

  get value(): number | null {
    this.#advance();
    if (this.#previous === null) return this.#current;
    return Math.max(this.#previous, this.#current ?? 0);
  }

  #advance(): void {
    const step = Math.floor(this.#steady() / 1_000 / STEP_SECONDS);
    if (step === this.#step) return;
    this.#previous = step === this.#step + 1 ? this.#current : null;
    this.#current = null;
    this.#step = step;
  }
}

/** Users with the highest counts in the last whole minute. */
class MinuteHitters {
  readonly #now: () => number;
  #minute = 0;
  #current = new HeavyHitters(TRACKED_HITTERS, { fades: false });
  #last: (readonly [number, number])[] = [];

  constructor(now: () => number) {
    this.#now = now;
  }

  saw(userId: number, by: number): void {
    this.#advance();
    this.#current.add(userId, by);
  }

  forget(userId: number): void {
    this.#advance();
    this.#current.forget(userId);
    this.#last = this.#last.filter(([id]) => id !== userId);
  }

  last(): readonly (readonly [number, number])[] {
    this.#advance();
    return this.#last;
  }

  #advance(): void {
    const minute = Math.floor(this.#now() / 60_000);
    if (minute === this.#minute) return;
    this.#last =
      minute === this.#minute + 1
        ? this.#current.top(REPORTED_HITTERS).map(({ key, count }) => [key, count] as const)
        : [];
    this.#minute = minute;
    this.#current = new HeavyHitters(TRACKED_HITTERS, { fades: false });
  }
}
