import {
  BrokenCircuitError,
  BulkheadRejectedError,
  bulkhead,
  CircuitState,
  circuitBreaker,
  ExponentialBackoff,
  handleWhen,
  noJitterGenerator,
  TaskCancelledError,
  TimeoutStrategy,
  timeout,
  wrap,
} from 'cockatiel';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { BreakerWindow } from './breakerWindow.ts';
import { isTransient } from './classify.ts';
import { BREAKER } from './limits.ts';

export type Dependency = 'database' | 'broker' | 'cache';

/** Stands before one dependency: every call goes through it. */
export interface Guard {
  /**
   * Makes one call. Throws CIRCUIT_OPEN without making it while the dependency is held to be away, OVERLOADED where
   * too many calls wait already, TIMED_OUT at the deadline, and else what the call throws.
   */
  run<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T>;
  readonly state: 'closed' | 'half-open' | 'open';
  close(): void;
}

export interface GuardOptions {
  readonly dependency: Dependency;
  /** In metrics, where a process has more than one for the same dependency. */
  readonly name?: string;
  readonly metrics?: Metrics | undefined;
  /** Past this the call is given up: its signal aborts, and nobody waits for it any more. */
  readonly timeoutMs?: number;
  /** Calls at a time, and calls that may wait for their turn. */
  readonly concurrency?: number;
  readonly waiting?: number;
  /** Slower than this counts against it. Left out where calls take as long as the work that is in them. */
  readonly slowMs?: number;
  /** What is tried before calls go out again; else the first of them is. A short one where calls may take long. */
  readonly probe?: () => Promise<unknown>;
  /** For tests: the clock of the window, in milliseconds. */
  readonly now?: () => number;
}

/** Refusals of a dependency, or of this program, that is there and well. */
const HEALTHY_REFUSALS = new Set([
  'BROKER_UNROUTABLE',
  'CIRCUIT_OPEN',
  'OVERLOADED',
  'QUEUE_FULL',
  'NODE_NUMBERS_EXHAUSTED',
  'DATABASE_ERROR',
]);

/** Failures that say that the dependency is away or too slow. A deadlock passes too, and says nothing of the kind. */
export const isUnavailable = (error: unknown): boolean =>
  isTransient(error) &&
  !(isFeedctlError(error) ? HEALTHY_REFUSALS.has(error.code) : (error as Error).name === 'AbortError');

const STATES = {
  [CircuitState.Closed]: 'closed',
  [CircuitState.HalfOpen]: 'half-open',
  [CircuitState.Open]: 'open',
  [CircuitState.Isolated]: 'open',
} as const;
const STATE_NUMBERS = { closed: 0, 'half-open': 1, open: 2 } as const;

export function openGuard(options: GuardOptions): Guard {
  const { dependency, metrics, now = () => performance.now() } = options;
  const label = { dependency: options.name ?? dependency };
  const window = new BreakerWindow(now);
  const breaker = circuitBreaker(
    // The window counts; these are the calls after which it is asked whether that is too much.
    handleWhen(isUnavailable).orWhenResult((result) => (result as Outcome<unknown>).slow),
    {
      breaker: window,
      halfOpenAfter: new ExponentialBackoff({
        initialDelay: BREAKER.probeAfterMs,
        maxDelay: BREAKER.maxProbeAfterMs,
        generator: noJitterGenerator,
      }),
    },
  );
  // There from the start: what comes first would be no increase to Prometheus.
  metrics?.count('feedctl_dependency_circuit_openings_total', 0, label);
  for (const name of ['timeouts', 'rejections'] as const)
    metrics?.count(`feedctl_dependency_${name}_total`, 0, label);
  breaker.onBreak(() => metrics?.count('feedctl_dependency_circuit_openings_total', 1, label));
  const queue = options.concurrency && bulkhead(options.concurrency, options.waiting ?? 0);
  const deadline = options.timeoutMs && timeout(options.timeoutMs, TimeoutStrategy.Aggressive);
  const policies = [...(deadline ? [deadline] : []), ...(queue ? [queue] : [])];
  const inner = policies.length > 0 ? wrap(...policies) : undefined;
  const state = () => STATES[breaker.state];
  const unwatch = metrics?.watch('feedctl_dependency_circuit_state', () => STATE_NUMBERS[state()], label);

  /** In this program's own words. */
  const explained = (error: unknown): unknown => {
    if (error instanceof TaskCancelledError)
      return new FeedctlError('TIMED_OUT', `the ${dependency} did not answer within ${options.timeoutMs} ms`);
    if (error instanceof BulkheadRejectedError)
      return new FeedctlError('OVERLOADED', `too many calls wait for the ${dependency}`);
    return error;
  };
  const count = (name: 'timeouts' | 'rejections') =>
    metrics?.count(`feedctl_dependency_${name}_total`, 1, label);
  const limited = async <T>(call: (signal: AbortSignal) => Promise<T>, outer: AbortSignal): Promise<T> => {
    try {
      return await (inner ? inner.execute(({ signal }) => call(signal), outer) : call(outer));
    } catch (error) {
      throw explained(error);
    }
  };
  const observed = async <T>(
    call: (signal: AbortSignal) => Promise<T>,
    outer: AbortSignal,
  ): Promise<Outcome<T>> => {
    const startedAt = now();
    try {
      const value = await limited(call, outer);
      const slow = options.slowMs !== undefined && now() - startedAt > options.slowMs;
      window.note({ failed: false, slow, timedOut: false });
      return { value, slow };
    } catch (error) {
      const timedOut = isFeedctlError(error, 'TIMED_OUT');
      if (timedOut) count('timeouts');
      if (isFeedctlError(error, 'OVERLOADED')) count('rejections');
      const failed = isUnavailable(error);
      window.note({ failed, slow: false, timedOut });
      if (failed) throw error;
      return { error, slow: false };
    }
  };
  const execute = async <T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    // While one call probes, others do not queue up behind it: it may be waiting for one of them itself.
    if (breaker.state === CircuitState.HalfOpen) throw circuitOpen(dependency);
    let outcome: Outcome<T>;
    try {
      outcome = await breaker.execute(({ signal }) => observed(call, signal));
    } catch (error) {
      throw error instanceof BrokenCircuitError ? circuitOpen(dependency) : error;
    }
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  };

  return {
    async run(call) {
      if (options.probe && breaker.state !== CircuitState.Closed) await execute(options.probe);
      return execute(call);
    },
    get state() {
      return state();
    },
    close: () => unwatch?.(),
  };
}

/** An error of a dependency that is there and well is no failure of the call's. */
type Outcome<T> =
  | { readonly value: T; readonly slow: boolean }
  | { readonly error: unknown; readonly slow: false };

const circuitOpen = (dependency: Dependency) =>
  new FeedctlError('CIRCUIT_OPEN', `the ${dependency} has failed too often: it is left alone for a moment`);
