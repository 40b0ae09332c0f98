import { setTimeout as sleep } from 'node:timers/promises';

/** A pause grows by this factor until it reaches `everyMs`. */
const GROWTH = 1.5;

export interface PollOptions {
  /** Milliseconds between two checks. */
  readonly everyMs: number;
  /**
   * Milliseconds before the second check: pauses grow from here to `everyMs`. Default: `everyMs`.
   */
  readonly firstMs?: number;
  /** No check begins later than this many milliseconds after the first. Default: no limit. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Calls `check` until it returns a truthy value, and returns that value. Returns the last falsy
 * value when the time is up. Throws what `check` throws, and an AbortError when the signal aborts.
 */
export async function poll<T>(check: () => T | Promise<T>, options: PollOptions): Promise<T> {
  const { everyMs, firstMs = everyMs, timeoutMs = Number.POSITIVE_INFINITY, signal } = options;
  const startedAt = performance.now();
  for (let pauseMs = firstMs; ; pauseMs = Math.min(everyMs, pauseMs * GROWTH)) {
    const value = await check();
    if (value || performance.now() - startedAt + pauseMs > timeoutMs) return value;
    await sleep(pauseMs, undefined, signal ? { signal } : {});
  }
}
