import type { Bus } from '../../bus/bus.ts';
import type { FeedChanges } from '../../cache/changes.ts';
import type { Database } from '../../database/database.ts';
import { readUserFile } from '../../files/userIds.ts';
import {
  countRunning,
  REBUILD,
  runOperation,
  saveLane,
  saveProgress,
  type Work,
} from '../../operations/run.ts';
import { announceLanes, readLanes } from '../../store/lanes.ts';
import { countWorkers } from '../../store/processes.ts';
import { BulkLane } from './pace.ts';
import { type RebuildOptions, type RebuildProgress, type RebuildResult, rebuildFrom } from './rebuild.ts';
import { allUsers, listedUsers } from './users.ts';

export interface RebuildManyOptions extends Omit<RebuildOptions, 'changes' | 'bus' | 'bulk'> {
  /** Users, an id a line; every user without it. */
  readonly file?: string | undefined;
  readonly onResume?: Work['onResume'];
}

/**
 * Rebuilds very many feeds, as an operation: what was cut off goes on behind the last chunk that was done, and counts
 * all its runs. Live fan-out goes first, and what operators did to
 * the bulk lane holds. Throws OPERATION_RUNNING, OPERATION_CANCELLED, INTERRUPTED, and what
 * reading the file throws, before anything is changed.
 */
export async function rebuildMany(
  { db, bus, changes }: { db: Database; bus: Bus; changes: FeedChanges },
  { file, onResume, ...options }: RebuildManyOptions,
): Promise<RebuildResult> {
  const listed = file === undefined ? undefined : await readUserFile(db, file);
  const source = listed ? listedUsers(listed.ids.sort((a, b) => a - b)) : allUsers(db);
  const how = { ...options, bus, changes };
  if (options.dryRun) return rebuildFrom(db, source, how);
  const key = listed ? `file ${listed.input.digest}` : 'all';
  const inputs = listed ? [listed.input] : [];
  const work = { kind: REBUILD, key, inputs, signal: options.signal, onResume };
  const bulk = new BulkLane({
    lanes: () => readLanes(db),
    sharers: async () => (await countWorkers(db)) + (await countRunning(db, REBUILD)),
  });
  const run = runOperation<RebuildProgress, RebuildResult>(db, work, async ({ id, progress, signal }) => {
    // Workers share the rate of a lane with who rebuilds; of one that was killed they find out.
    await announceLanes(db);
    return rebuildFrom(db, source, { ...how, bulk, signal }, progress, {
      begin: (now, total) => saveProgress(db, id, now, { done: 0, total, unit: 'feeds' }),
      chunk: (session, noted) => saveLane(session, id, noted),
    });
  });
  return run.finally(() => announceLanes(db).catch(() => {}));
}
