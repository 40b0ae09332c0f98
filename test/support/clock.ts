import { onTestFinished, vi } from 'vitest';

/** Lets a test set the clock of this process. It goes on from there, and the monotonic clock is not set. */
export function settableClock(): { aheadMs: number } {
  const clock = { aheadMs: 0 };
  const now = Date.now;
  const spy = vi.spyOn(Date, 'now').mockImplementation(() => now() + clock.aheadMs);
  onTestFinished(() => spy.mockRestore());
  return clock;
}
