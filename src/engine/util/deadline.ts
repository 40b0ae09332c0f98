import { setTimeout as sleep } from 'node:timers/promises';

/** What `work` resolves to, or throws; `late()` is thrown where it has not ended after `ms`. It goes on all the same. */
export async function withTimeout<T>(ms: number, work: Promise<T>, late: () => Error): Promise<T> {
  const over = new AbortController();
  const { signal } = over;
  try {
    return await Promise.race([work, sleep(ms, undefined, { signal }).then(() => Promise.reject(late()))]);
  } finally {
    over.abort();
  }
}

/** Resolves when `work` has ended, whether or not it failed, and after `ms` at the latest: for ends that nothing may hold up. */
export const settleWithin = (ms: number, work: Promise<unknown>): Promise<void> =>
  withTimeout(ms, work, () => new Error('late')).then(
    () => {},
    () => {},
  );
