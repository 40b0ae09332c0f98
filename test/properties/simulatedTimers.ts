import type { setTimeout as Sleep } from 'node:timers/promises';
import { currentActor } from './scheduler.ts';

/** Replaces node:timers/promises: sleeps of actors wait for the scheduler, other sleeps are real. */
export function sleepOf(real: typeof Sleep): typeof Sleep {
  return (async (ms = 0, value?: unknown, options?: { signal?: AbortSignal }) => {
    const actor = currentActor();
    if (!actor) return real(ms, value, options);
    await actor.sleep(ms);
    options?.signal?.throwIfAborted();
    return value;
  }) as typeof Sleep;
}
