import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves when `work` has ended, whether or not it failed, and after `ms` at the latest: for ends that nothing may hold up. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  const late = sleep(ms, undefined, { signal: over.signal }).catch(() => {});
  await Promise.race([work.catch(() => {}), late]);
  over.abort();
}
