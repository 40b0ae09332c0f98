import type { Bus } from '../../bus/bus.ts';
import type { FeedChanges } from '../../cache/changes.ts';
import type { Database } from '../../database/database.ts';
import { FeedctlError } from '../../model/errors.ts';
import type { LaneState } from '../../model/lanes.ts';
import { getUser } from '../../store/users.ts';
import { runConcurrently } from '../../util/parallel.ts';
import type { BulkLaneGate } from './bulkLaneGate.ts';
import { ChunkRebuilder, type PartContext, type PartProgress, PartRebuild } from './chunks.ts';
import { LivePriority } from './pace.ts';
import {
  type ProgressStore,
  type RebuildPart,
  type RebuildProgress,
  type RebuildResult,
  splitUsers,
  totalOf,
} from './progress.ts';
import { allUsers, type UserSource } from './users.ts';
import { rebuildVariant } from './variants.ts';

export type { RebuildProgress, RebuildResult } from './progress.ts';

export interface RebuildOptions {
  readonly changes?: FeedChanges;
  /** Live fan-out on this bus has priority. */
  readonly bus?: Bus | undefined;
  /** The pause and the throttle of the bulk lane apply. */
  readonly bulk?: BulkLaneGate | undefined;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  /** Maximum number of feeds per second. */
  readonly rate?: number | undefined;
  /** `before`: feeds of earlier runs, which `progress` includes. */
  readonly onProgress?: (
    progress: RebuildResult,
    total: number,
    before: number,
    /** The paused lane. Reported again at each check. */
    waitsFor?: LaneState,
  ) => void;
}

/**
 * Rebuilds feeds from the truth: the newest 1,000 posts of followed authors, with the floor below
 * them. Missing rows are added and wrong ones removed in one transaction, so a reader never sees an
 * empty feed. `userId` undefined: every user. Throws USER_NOT_FOUND, or INTERRUPTED with the number
 * of feeds done.
 */
export async function rebuild(
  db: Database,
  userId: number | undefined,
  options: RebuildOptions = {},
): Promise<RebuildResult> {
  if (userId === undefined) return rebuildFrom(db, allUsers(db), options);
  await getUser(db, userId);
  const startedAt = performance.now();
  const { changes, dryRun } = options;
  const variant = rebuildVariant(await db.sharding());
  const rebuilder = new ChunkRebuilder(db, variant, { changes, dryRun, invalidateAll: true, durable: true });
  const { changed: _, ...counts } = await rebuilder.rebuild([userId]);
  return { users: 1, ...counts, seconds: (performance.now() - startedAt) / 1_000 };
}

/**
 * Rebuilds the feeds of these users in short chunks. Resumes from the `earlier` progress. Saved
 * progress is done work. Throws INTERRUPTED.
 */
export async function rebuildFrom(
  db: Database,
  source: UserSource,
  options: RebuildOptions,
  earlier?: RebuildProgress,
  store?: ProgressStore,
): Promise<RebuildResult> {
  const startedAt = performance.now();
  const { signal, changes, dryRun } = options;
  const total = await source.count();
  const sharding = await db.sharding();
  const variant = rebuildVariant(sharding);
  const parts = [...(earlier?.lanes ?? (await splitUsers(source, total, variant.parts)))];
  if (!earlier) await store?.begin({ lanes: parts, seconds: 0 }, total);
  const now = () => totalOf(parts, (earlier?.seconds ?? 0) + (performance.now() - startedAt) / 1_000);
  const before = now().users;
  const failed = new AbortController();
  const context: PartContext = {
    db,
    source,
    sharding,
    rebuilder: new ChunkRebuilder(db, variant, { changes, dryRun, invalidateAll: false, durable: false }),
    live: new LivePriority(dryRun ? undefined : options.bus),
    bulk: dryRun ? undefined : options.bulk,
    rate: options.rate && options.rate / parts.length,
    signal: signal ? AbortSignal.any([signal, failed.signal]) : failed.signal,
  };
  const progressOf = (index: number): PartProgress => ({
    current: () => parts[index]!,
    set: (part: RebuildPart) => {
      parts[index] = part;
      options.onProgress?.(now(), total, before);
    },
    waits: (paused) => options.onProgress?.(now(), total, before, paused),
    save: async (session, part) => {
      const done = part.users - parts[index]!.users;
      await store?.save(session, { index, lane: part, done, seconds: now().seconds });
    },
  });
  await runConcurrently([...parts.keys()], parts.length, async (index) => {
    await new PartRebuild(context, progressOf(index)).run().catch((error) => {
      failed.abort();
      throw error;
    });
  });
  if (signal?.aborted && parts.some(({ after, upTo }) => after < upTo))
    throw new FeedctlError(
      'INTERRUPTED',
      `the rebuild was interrupted after ${now().users} of ${total} feeds; those are done`,
    );
  return now();
}
