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

/** Timeout, bulkhead and circuit breaker of one dependency, for every call of it. */
export interface Guard {
  /**
   * Makes one call. Throws CIRCUIT_OPEN without making it while the circuit is open, OVERLOADED
   * where too many calls wait, TIMED_OUT at the deadline, and otherwise what the call throws.
   */
  run<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T>;
  readonly state: 'closed' | 'half-open' | 'open';
  close(): void;
}

export interface GuardOptions {
  readonly dependency: Dependency;
  /** Label in metrics, for a process with several guards of one dependency. */
  readonly name?: string;
  readonly metrics?: Metrics | undefined;
  /** Deadline of a call: its signal aborts, and `run` throws without waiting for it. */
  readonly timeoutMs?: number;
  /** Maximum numbers of concurrent calls and of waiting calls. */
  readonly concurrency?: number;
  readonly waiting?: number;
  /**
   * A slower call counts against the dependency. Omitted where the duration depends on the work.
   */
  readonly slowMs?: number;
  /** A short call that probes a half-open circuit. Default: the next call itself. */
  readonly probe?: () => Promise<unknown>;
  /** Clock of the window in milliseconds, for tests. */
  readonly now?: () => number;
}

/** Refusals of a healthy dependency, or of this program. */
const HEALTHY_REFUSALS = new Set([
  'BROKER_UNROUTABLE',
  'CIRCUIT_OPEN',
  'OVERLOADED',
  'QUEUE_FULL',
  'NODE_NUMBERS_EXHAUSTED',
  'CLOCK_BEHIND',
  'CLOCK_OFF',
  'DATABASE_ERROR',
  'DATABASE_READ_ONLY',
]);

/** Returns whether an error means that the dependency is down or too slow. */
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
    // After each of these calls the breaker asks the window whether the circuit opens.
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
  // Counters exist from the start: Prometheus does not see the first increment of a new series.
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

  /** Translates errors of the policies. */
  const explained = (error: unknown): unknown => {
    if (error instanceof TaskCancelledError)
      return new FeedctlError('TIMED_OUT', `the ${dependency} did not answer within ${options.timeoutMs} ms`);
    if (error instanceof BulkheadRejectedError)
      return new FeedctlError('OVERLOADED', `too many calls are waiting for the ${dependency}`);
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
      window.record({ failed: false, slow, timedOut: false });
      return { value, slow };
    } catch (error) {
      const timedOut = isFeedctlError(error, 'TIMED_OUT');
      if (timedOut) count('timeouts');
      if (isFeedctlError(error, 'OVERLOADED')) count('rejections');
      const failed = isUnavailable(error);
      window.record({ failed, slow: false, timedOut });
      if (failed) throw error;
      return { error, slow: false };
    }
  };
  const execute = async <T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    // Other calls do not wait for the probe: it may be waiting for one of them itself.
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

/** An error of a healthy dependency is an outcome: the breaker does not count it as a failure. */
type Outcome<T> =
  | { readonly value: T; readonly slow: boolean }
  | { readonly error: unknown; readonly slow: false };

const circuitOpen = (dependency: Dependency) =>
  new FeedctlError('CIRCUIT_OPEN', `the ${dependency} failed too often: no calls until a probe succeeds`);
