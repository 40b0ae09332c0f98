import { setTimeout as sleep } from 'node:timers/promises';
import { isFeedctlError } from '../model/errors.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { backoffMs } from '../util/backoff.ts';
import { isTransient } from './classify.ts';
import type { Dependency } from './guard.ts';

/** Retries of an open circuit or a full bulkhead only add load, and a clock is not right again soon. */
const NOT_RETRIED: ReadonlySet<string> = new Set(['CIRCUIT_OPEN', 'OVERLOADED', 'CLOCK_BEHIND', 'CLOCK_OFF']);

/** Returns whether a retry may succeed. */
const isRetriable = (error: unknown): boolean =>
  isTransient(error) && !(isFeedctlError(error) && NOT_RETRIED.has(error.code));

export interface RetryLimits {
  /** Number of tries, the first included. */
  readonly tries: number;
  /** No try begins later than this many milliseconds after the first. */
  readonly budgetMs: number;
}

export const ONCE: RetryLimits = { tries: 1, budgetMs: 0 };

/**
 * Retries `work` after transient failures, with growing delays, up to `tries` tries. `isRetry` is
 * true from the second try on: the first one may have succeeded, and only its answer was lost.
 */
export async function retry<T>(
  work: (isRetry: boolean) => Promise<T>,
  options: RetryLimits & { dependency: Dependency; metrics?: Metrics | undefined },
): Promise<T> {
  const until = performance.now() + options.budgetMs;
  for (let failures = 0; ; ) {
    try {
      return await work(failures > 0);
    } catch (error) {
      failures += 1;
      const delayMs = backoffMs(failures);
      const inTime = performance.now() + delayMs <= until;
      if (failures >= options.tries || !inTime || !isRetriable(error)) throw error;
      options.metrics?.count('feedctl_dependency_retries_total', 1, { dependency: options.dependency });
      await sleep(delayMs);
    }
  }
}
