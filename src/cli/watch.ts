import { setTimeout as sleep } from 'node:timers/promises';
import { type FeedctlError, isFeedctlError } from '../engine/model/errors.ts';

/**
 * Makes one view after the other until the signal. A failure of the first view is permanent, a later one may
 * be transient: `onError` shows it, and the next view is tried.
 */
export async function repeatView(
  view: () => Promise<void>,
  options: { intervalMs: () => number; signal: AbortSignal; onError: (error: FeedctlError) => void },
): Promise<void> {
  const { intervalMs, signal, onError } = options;
  for (let first = true; !signal.aborted; first = false) {
    try {
      await view();
    } catch (error) {
      if (signal.aborted) return;
      if (first || !isFeedctlError(error)) throw error;
      onError(error);
    }
    await sleep(intervalMs(), undefined, { signal }).catch(() => {});
  }
}
