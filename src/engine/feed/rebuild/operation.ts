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
import { BulkLaneGate } from './bulkLaneGate.ts';
import { type RebuildOptions, type RebuildProgress, type RebuildResult, rebuildFrom } from './rebuild.ts';
import { allUsers, listedUsers } from './users.ts';

export interface RebuildManyOptions extends Omit<RebuildOptions, 'changes' | 'bus' | 'bulk'> {
  /** File of user ids, one per line. Default: every user. */
  readonly file?: string | undefined;
  readonly onResume?: Work['onResume'];
}

/**
 * Rebuilds many feeds as an operation. A later run resumes after the last chunk that was done, and
 * its counts include all runs. Live fan-out has priority, and the pause and the throttle of the
 * bulk lane apply. Throws OPERATION_RUNNING, OPERATION_CANCELLED and INTERRUPTED. Errors in the
 * file are thrown before any change.
 */
export async function rebuildMany(
  { db, bus, changes }: { db: Database; bus: Bus; changes: FeedChanges },
  { file, onResume, ...options }: RebuildManyOptions,
): Promise<RebuildResult> {
  const listed = file === undefined ? undefined : await readUserFile(db, file);
  const source = listed ? listedUsers(listed.ids.sort((a, b) => a - b)) : allUsers(db);
  const rebuildOptions = { ...options, bus, changes };
  if (options.dryRun) return rebuildFrom(db, source, rebuildOptions);
  const key = listed ? `file ${listed.input.digest}` : 'all';
  const inputs = listed ? [listed.input] : [];
  const work = { kind: REBUILD, key, inputs, signal: options.signal, onResume };
  const bulk = new BulkLaneGate({
    lanes: () => readLanes(db),
    sharers: async () => (await countWorkers(db)) + (await countRunning(db, REBUILD)),
  });
  const run = runOperation<RebuildProgress, RebuildResult>(db, work, async ({ id, progress, signal }) => {
    // Workers share the rate of a throttled lane with rebuilds. They detect a killed rebuild
    // themselves.
    await announceLanes(db);
    return rebuildFrom(db, source, { ...rebuildOptions, bulk, signal }, progress, {
      begin: (progress, total) => saveProgress(db, id, progress, { done: 0, total, unit: 'feeds' }),
      save: (session, change) => saveLane(session, id, change),
    });
  });
  return run.finally(() => announceLanes(db).catch(() => {}));
}
