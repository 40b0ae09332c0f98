import type { Database } from '../database/database.ts';
import { registeredWorkers } from '../fleet/workers.ts';
import type { LaneName, LaneState } from '../model/lanes.ts';
import { pauseLanes, readLanes, resumeLanes, throttleLanes } from '../store/lanes.ts';
import { poll } from '../util/poll.ts';

/** Milliseconds between two looks at the workers while `pauseFanout` waits for them to drain. */
const POLL_MS = 200;

export interface LaneChange {
  /** The current state of all lanes. */
  readonly lanes: readonly LaneState[];
  readonly changed: readonly LaneName[];
  readonly dryRun: boolean;
}

/** The operator's name, shown with the changed lanes. */
const operator = (db: Database): string => db.invocation?.who ?? 'an operator';

/** A dry run makes the same change and rolls it back, so no worker is notified. */
async function change(
  db: Database,
  dryRun: boolean,
  work: (session: Parameters<typeof readLanes>[0]) => Promise<LaneName[]>,
): Promise<LaneChange> {
  const changed = dryRun ? await db.rehearse(work) : await work(db);
  return { lanes: await readLanes(db), changed, dryRun };
}

export interface Paused extends LaneChange {
  /** `standing`: drained workers, with no message of these lanes in flight. `of`: all that are alive. */
  readonly workers: { readonly standing: number; readonly of: number };
}

/**
 * Pauses lanes durably until they are resumed: no worker takes messages of them, including workers
 * that start later. Resolves when all workers that are alive have finished their messages in
 * flight, or at the timeout.
 */
export async function pauseFanout(
  db: Database,
  lanes: readonly LaneName[],
  options: { reason: string | null; dryRun: boolean; timeoutMs: number; signal: AbortSignal },
): Promise<Paused> {
  const { reason, dryRun, timeoutMs, signal } = options;
  const changed = await change(db, dryRun, (session) =>
    pauseLanes(session, lanes, { by: operator(db), reason }),
  );
  let workers = { standing: 0, of: 0 };
  const allDrained = async () => {
    workers = await workersOf(db, lanes);
    return workers.standing === workers.of;
  };
  const waitMs = dryRun ? 0 : timeoutMs;
  // An abort ends the wait, not the pause: the result shows how far the workers are.
  await poll(allDrained, { everyMs: POLL_MS, timeoutMs: waitMs, signal }).catch((error) => {
    if (!signal.aborted) throw error;
  });
  return { ...changed, workers };
}

export function resumeFanout(
  db: Database,
  lanes: readonly LaneName[],
  { dryRun }: { dryRun: boolean },
): Promise<LaneChange> {
  return change(db, dryRun, (session) => resumeLanes(session, lanes));
}

/** `rowsPerSecond`: for each lane, of the whole cluster; null removes the limit. */
export function throttleFanout(
  db: Database,
  lanes: readonly LaneName[],
  rowsPerSecond: number | null,
  { reason, dryRun }: { reason: string | null; dryRun: boolean },
): Promise<LaneChange> {
  return change(db, dryRun, (session) =>
    throttleLanes(session, lanes, rowsPerSecond, { by: operator(db), reason }),
  );
}

/** Counts workers that are alive, and those with nothing of these lanes in flight. */
export async function workersOf(
  db: Database,
  lanes: readonly LaneName[],
): Promise<{ standing: number; of: number }> {
  const workers = (await registeredWorkers(db)).filter((worker) => worker.there);
  const drained = workers.filter((worker) => lanes.every((lane) => worker.paused.includes(lane)));
  return { standing: drained.length, of: workers.length };
}
