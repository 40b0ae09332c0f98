import type { setTimeout as Sleep } from 'node:timers/promises';
import { currentActor } from './scheduler.ts';

/** Stands in for node:timers/promises: an actor's time passes when its scheduler says so, everybody else's as ever. */
export function sleepOf(real: typeof Sleep): typeof Sleep {
  return (async (ms = 0, value?: unknown, options?: { signal?: AbortSignal }) => {
    const actor = currentActor();
    if (!actor) return real(ms, value, options);
    await actor.sleep(ms);
    options?.signal?.throwIfAborted();
    return value;
  }) as typeof Sleep;
}
