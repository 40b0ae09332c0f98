import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { firstIdAt } from '../model/ids.ts';
import { anyUndispatched } from '../store/events.ts';
import { type Bus, STAGES } from './bus.ts';

const FIRST_LOOK_MS = 10;
const MAX_LOOK_MS = 200;
/** Ids may run ahead of the clock a little. */
const AHEAD_MS = 1_000;

/** Polls with growing pauses, `maxWaitMs` at most. Throws when the signal aborts. */
export async function until(
  done: () => Promise<boolean>,
  signal?: AbortSignal,
  maxWaitMs = MAX_LOOK_MS,
): Promise<void> {
  for (let waitMs = FIRST_LOOK_MS; !(await done()); waitMs = Math.min(maxWaitMs, waitMs * 1.5)) {
    await sleep(waitMs, undefined, signal ? { signal } : {});
  }
}

/**
 * Resolves when every post committed before the call is in every feed it belongs to: its event has left the
 * outbox, then it has gone through every step of the bus.
 */
export async function fanOutDrained(
  context: { db: Database; bus: Bus },
  signal?: AbortSignal,
): Promise<void> {
  const { db, bus } = context;
  const lastId = firstIdAt(Date.now() + AHEAD_MS);
  await until(async () => !(await anyUndispatched(db, lastId)), signal);
  for (const queues of STAGES) {
    const barrier = await bus.placeBarrier(queues);
    await until(() => bus.hasPassed(barrier), signal);
  }
}
