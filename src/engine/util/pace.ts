import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Waits until `done` calls are due at `rate` calls per second since `startedAt`, by the monotonic
 * clock. Returns immediately without a rate. Rejects when the signal aborts.
 */
export async function paceCalls(
  done: number,
  {
    rate,
    startedAt,
    signal,
  }: { rate: number | undefined; startedAt: number; signal?: AbortSignal | undefined },
): Promise<void> {
  const dueMs = rate === undefined ? 0 : (done / rate) * 1_000 - (performance.now() - startedAt);
  if (dueMs > 0) await sleep(dueMs, undefined, signal && { signal });
}
