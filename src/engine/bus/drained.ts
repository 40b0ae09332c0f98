import type { Database } from '../database/database.ts';
import { firstIdAt } from '../model/ids.ts';
import { databaseNow } from '../store/databaseClock.ts';
import { anyUndispatched } from '../store/events.ts';
import { poll } from '../util/poll.ts';
import { type Bus, STAGES } from './bus.ts';

const FIRST_POLL_MS = 10;
const POLL_MS = 200;
/** Ids may run ahead of the database's clock by 50 ms, and processes know it to some milliseconds. */
const AHEAD_MS = 1_000;

/** Returns an id above those of all events that are in flight now. */
export const idAboveAll = async (db: Database): Promise<number> =>
  firstIdAt(Math.floor(await databaseNow(db)) + AHEAD_MS);

/** Resolves when everything before the barrier has left its queues. Throws when the signal aborts. */
export async function barrierPassed(
  bus: Bus,
  queues: Parameters<Bus['placeBarrier']>[0],
  signal?: AbortSignal,
): Promise<void> {
  const barrier = await bus.placeBarrier(queues);
  await poll(() => bus.hasPassed(barrier), { firstMs: FIRST_POLL_MS, everyMs: POLL_MS, signal });
}

/**
 * Resolves when every post committed before the call is in every feed it belongs to: its event has
 * left the outbox, then every stage of the bus. Throws when the signal aborts.
 */
export async function fanOutDrained(
  { db, bus }: { db: Database; bus: Bus },
  signal?: AbortSignal,
): Promise<void> {
  const lastId = await idAboveAll(db);
  const dispatched = async () => !(await anyUndispatched(db, lastId));
  await poll(dispatched, { firstMs: FIRST_POLL_MS, everyMs: POLL_MS, signal });
  for (const queues of STAGES) await barrierPassed(bus, queues, signal);
}
