import { setTimeout as sleep } from 'node:timers/promises';
import { type Check, faultOf } from '../model/check.ts';
import { poll } from '../util/poll.ts';

/** Time in which a role that starts becomes ready, if nothing prevents it. */
const START_MS = 3_000;
/** Reasons that end by themselves, and the time that they may take on a busy machine. */
const STARTING: ReadonlySet<string> = new Set(['NOT_LIVE', 'TIMED_OUT']);
const STARTING_MS = 30_000;
const POLL_MS = 100;
const LATER_POLL_MS = 1_000;

/** Why a role is not ready. */
export type NotReady = Pick<Check, 'name' | 'detail'>;

/** Returns why `check` throws, `name` being the code of the error. undefined: it does not. */
const reasonOf = (check: () => Promise<void>): Promise<NotReady | undefined> =>
  check().then(
    () => undefined,
    (error) => faultOf('INTERNAL', error),
  );

/**
 * Waits until a role that has started is ready, 3 s at most, or 30 s while it is still starting. Returns why
 * it is not, if it is not.
 */
export async function startedReady(check: () => Promise<void>): Promise<NotReady | undefined> {
  let reason: NotReady | undefined;
  const startedAt = performance.now();
  await poll(
    async () => {
      reason = await reasonOf(check);
      if (reason === undefined) return true;
      return performance.now() - startedAt > START_MS && !STARTING.has(reason.name);
    },
    { everyMs: POLL_MS, timeoutMs: STARTING_MS },
  );
  return reason;
}

/** Resolves with true once `check` no longer throws, or with false when the signal aborts. */
export async function becomesReady(check: () => Promise<void>, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    if ((await reasonOf(check)) === undefined) return true;
    await sleep(LATER_POLL_MS, undefined, { signal }).catch(() => {});
  }
  return false;
}
