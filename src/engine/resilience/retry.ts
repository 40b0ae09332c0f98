import { setTimeout as sleep } from 'node:timers/promises';
import { isFeedctlError } from '../model/errors.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { backoffMs } from '../util/backoff.ts';
import { isTransient } from './classify.ts';
import type { Dependency } from './guard.ts';

/** A dependency that is held to be away, or has no room, is not asked once more by everybody. */
const worthAnotherTry = (error: unknown): boolean =>
  isTransient(error) && !isFeedctlError(error, 'CIRCUIT_OPEN') && !isFeedctlError(error, 'OVERLOADED');

export interface RetryLimits {
  /** The first included. */
  readonly tries: number;
  /** No try begins later than this many milliseconds after the first. */
  readonly budgetMs: number;
}

export const ONCE: RetryLimits = { tries: 1, budgetMs: 0 };

/**
 * Tries `work` up to `tries` times, the first included, with growing delays, where it failed in a way that passes.
 * `again` is true from the second try on: the one before may have done its work, and only the answer was lost.
 */
export async function retry<T>(
  work: (again: boolean) => Promise<T>,
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
      if (failures >= options.tries || !inTime || !worthAnotherTry(error)) throw error;
      options.metrics?.count('feedctl_dependency_retries_total', 1, { dependency: options.dependency });
      await sleep(delayMs);
    }
  }
}
