import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Returns the result of `work`. Throws `timeoutError()` if it has not ended after `ms`. The work itself
 * continues.
 */
export async function withTimeout<T>(ms: number, work: Promise<T>, timeoutError: () => Error): Promise<T> {
  const over = new AbortController();
  const { signal } = over;
  try {
    return await Promise.race([
      work,
      sleep(ms, undefined, { signal }).then(() => Promise.reject(timeoutError())),
    ]);
  } finally {
    over.abort();
  }
}

/**
 * Resolves when `work` has ended or failed, and after `ms` at the latest. For shutdowns that must
 * not hang.
 */
export const settleWithin = (ms: number, work: Promise<unknown>): Promise<void> =>
  withTimeout(ms, work, () => new Error('late')).then(
    () => {},
    () => {},
  );
