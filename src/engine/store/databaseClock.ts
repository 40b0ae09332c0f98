import type { Queryable } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';
import { type Log, silentLog } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/**
 * Maximum difference between the clock of a role's machine and that of the database. Ids do not depend on
 * it. Tokens, delays of messages and logs use the machine's clock, and a larger difference is a fault of
 * one of the two clocks.
 */
export const MAX_OFFSET_MS = 5_000;
/** Seconds after which a client may retry. A role measures more often. */
const RETRY_AFTER_SECONDS = 10;
/** Difference between the progress of two clocks of this machine that means a step or a suspension. */
const STEP_MS = 250;
/** Maximum rate at which two clocks drift apart: NTP clients slew a clock by 500 ms in 1,000 s. */
const DRIFT = 0.0005;
/** Measurements that are compared with each other. */
const KEPT = 16;

/** SQL: unix milliseconds by the clock of the database. */
export const DATABASE_NOW = 'extract(epoch from clock_timestamp())::float8 * 1000';

/** Returns unix milliseconds by the clock of the database. */
export async function databaseNow(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ now: number }>(`select ${DATABASE_NOW} as now`);
  return rows[0]!.now;
}

/** Clocks of this machine, in milliseconds. */
export interface MachineClocks {
  /** Time since 1970. It may be set. */
  wall(): number;
  /** Time since any moment. It only grows, and stands still while the machine is suspended. */
  monotonic(): number;
}

const MACHINE: MachineClocks = { wall: () => Date.now(), monotonic: () => performance.now() };

/** One reading of the database's clock. */
interface Measurement {
  /** The database's clock minus the monotonic one. */
  readonly base: number;
  /** Maximum error of `base` at that time: half a round trip. */
  readonly errorMs: number;
  /** Time by the monotonic clock. */
  readonly at: number;
}

export interface ClockOptions {
  readonly log?: Log;
  readonly metrics?: Metrics | undefined;
  /** Maximum difference at which `check` passes. Commands have none: their ids are right all the same. */
  readonly limitMs?: number;
  readonly machine?: MachineClocks;
}

/** A clock that tells unix milliseconds. */
export type Clock = Pick<DatabaseClock, 'now'>;

const errorAt = ({ errorMs, at }: Measurement, now: number): number => errorMs + (now - at) * DRIFT;

/**
 * The clock of the database, as this process knows it. A measurement assumes that the database read its
 * clock in the middle of the round trip, and the most exact of the recent ones counts. Between
 * measurements the time advances with the monotonic clock, so setting the clock of this machine has no
 * effect on it. Before the first measurement it is the clock of this machine.
 */
export class DatabaseClock {
  readonly #machine: MachineClocks;
  readonly #log: Log;
  readonly #limitMs: number;
  readonly #unwatch: (() => void) | undefined;
  #kept: Measurement[] = [];
  #best: Measurement | undefined;
  /** The machine's clock minus the monotonic one at the last measurement. */
  #wallBase = 0;
  #reading: Promise<void> | undefined;
  #isOff = false;

  constructor({ log = silentLog, metrics, limitMs = MAX_OFFSET_MS, machine = MACHINE }: ClockOptions = {}) {
    this.#machine = machine;
    this.#log = log;
    this.#limitMs = limitMs;
    const exported = () => (this.#best ? Math.round(this.offsetMs) / 1000 : undefined);
    this.#unwatch = metrics?.watch('feedctl_clock_offset_seconds', exported);
  }

  /** Whole unix milliseconds by the clock of the database. */
  now(): number {
    return Math.floor(this.#now());
  }

  /** The machine's clock minus the database's: above 0, the machine's is ahead. 0 if not measured. */
  get offsetMs(): number {
    return this.#machine.wall() - this.#now();
  }

  /** The clock of this machine was set, or the machine was suspended, since the last measurement. */
  get hasStepped(): boolean {
    return this.#best !== undefined && Math.abs(this.#wallMinusMonotonic() - this.#wallBase) > STEP_MS;
  }

  /** Throws CLOCK_OFF if the clocks differ by more than the limit. */
  check(): void {
    if (this.isOff()) throw clockOff(this.offsetMs);
  }

  /** Returns whether the clocks differ by more than the limit and the error of the measurement. */
  isOff(): boolean {
    if (!this.#best) return false;
    const { offsetMs } = this;
    const isOff = Math.abs(offsetMs) - errorAt(this.#best, this.#machine.monotonic()) > this.#limitMs;
    if (isOff !== this.#isOff) {
      this.#isOff = isOff;
      const fields = { offsetSeconds: Math.round(offsetMs) / 1000, limitSeconds: this.#limitMs / 1000 };
      if (isOff) this.#log.error(fields, 'the clock differs too much from the database’s: not ready');
      else this.#log.info(fields, 'the clock is right again');
    }
    return isOff;
  }

  /** Measures with a call that reads the database's clock. `nowOf`: undefined if the answer lacks it. */
  async measure<T>(call: () => Promise<T>, nowOf: (answer: T) => number | undefined): Promise<T> {
    const sentAt = this.#machine.monotonic();
    const wallBase = this.#wallMinusMonotonic();
    const answer = await call();
    const databaseMs = nowOf(answer);
    // A step of the clock within the round trip may be a suspension: its length is not known.
    if (databaseMs !== undefined && Math.abs(this.#wallMinusMonotonic() - wallBase) <= STEP_MS)
      this.#add(databaseMs, sentAt);
    return answer;
  }

  /** Measures with a statement. Concurrent calls share one. */
  read(db: Queryable): Promise<void> {
    this.#reading ??= this.measure(
      () => databaseNow(db),
      (now) => now,
    )
      .then(() => {})
      .finally(() => {
        this.#reading = undefined;
      });
    return this.#reading;
  }

  close(): void {
    this.#unwatch?.();
  }

  #add(databaseMs: number, sentAt: number): void {
    const at = this.#machine.monotonic();
    const errorMs = (at - sentAt) / 2;
    const one = { base: databaseMs - (sentAt + errorMs), errorMs, at };
    // Measurements from before a step may be those from before a suspension. Others that contradict this
    // one were made before the database's clock was set, or at another server.
    const agreeing = this.hasStepped
      ? []
      : this.#kept.filter((before) => Math.abs(before.base - one.base) <= errorAt(before, at) + errorMs);
    this.#kept = [...agreeing, one].slice(-KEPT);
    this.#best = this.#kept.reduce((best, other) => (errorAt(other, at) <= errorAt(best, at) ? other : best));
    this.#wallBase = this.#wallMinusMonotonic();
  }

  #now(): number {
    return this.#best ? this.#machine.monotonic() + this.#best.base : this.#machine.wall();
  }

  #wallMinusMonotonic(): number {
    return this.#machine.wall() - this.#machine.monotonic();
  }
}

/** Describes an offset in words, for people. */
export function describeOffset(offsetMs: number): string {
  const ms = Math.round(Math.abs(offsetMs));
  const size = ms < 10_000 ? `${ms} ms` : `${Math.round(ms / 1000)} s`;
  return `${size} ${offsetMs < 0 ? 'behind' : 'ahead of'} the database's`;
}

function clockOff(offsetMs: number): FeedctlError {
  const error = new FeedctlError(
    'CLOCK_OFF',
    `the clock of this machine is ${describeOffset(offsetMs)}; at most ${MAX_OFFSET_MS / 1000} s are allowed`,
  );
  return Object.assign(error, { retryAfterSeconds: RETRY_AFTER_SECONDS });
}
