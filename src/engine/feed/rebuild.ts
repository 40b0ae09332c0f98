import type { Bus } from '../bus/bus.ts';
import type { FeedChanges } from '../cache/changes.ts';
import { notifiedChanges } from '../cache/invalidation.ts';
import { FeedctlError } from '../model/errors.ts';
import { keepPace } from '../resilience/pace.ts';
import { type Database, isDuplicate, type Session } from '../store/database.ts';
import { inParallel } from '../store/parallel.ts';
import { type FeedsRebuilt, planRebuild, rebuildFeeds } from '../store/rebuild.ts';
import { repeatedTransaction } from '../store/steps.ts';
import { getUser } from '../store/users.ts';
import { ChunkSize, LiveFirst } from './rebuildPace.ts';
import { allUsers, type UserSource } from './rebuildUsers.ts';

/** On Citus, where each shard's feeds are a transaction of their own. */
const SHARDS_AT_A_TIME = 4;

export interface RebuildResult {
  readonly users: number;
  /** Rows that the rebuilt feeds hold. */
  readonly items: number;
  /** Rows that were missing, or had a wrong author, and rows that were too many. */
  readonly added: number;
  readonly removed: number;
  readonly seconds: number;
}

/** How far a rebuild has come: `after` is the last user who is done. */
export interface RebuildProgress extends RebuildResult {
  readonly after: number;
}

const NOTHING: RebuildProgress = { after: 0, users: 0, items: 0, added: 0, removed: 0, seconds: 0 };

export interface RebuildOptions {
  readonly changes?: FeedChanges;
  /** Where there is one, live fan-out goes first. */
  readonly bus?: Bus | undefined;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  /** Feeds a second at most. */
  readonly rate?: number | undefined;
  /** `before`: feeds of earlier runs, which are among those of `progress`. */
  readonly onProgress?: (progress: RebuildProgress, total: number, before: number) => void;
}

/**
 * Makes feeds equal to the truth again: the newest 1,000 posts of those followed, with the floor below them. A
 * reader never sees an emptied feed: what is missing comes and what is wrong goes in one transaction.
 * `userId` undefined: every user. Throws USER_NOT_FOUND, or INTERRUPTED with what was done so far.
 */
export async function rebuild(
  db: Database,
  userId: number | undefined,
  options: RebuildOptions = {},
): Promise<RebuildResult> {
  if (userId === undefined) return rebuildFrom(db, allUsers(db), options);
  await getUser(db, userId);
  const startedAt = performance.now();
  const { distributed } = await db.topology();
  const one = new Rebuilder(db, distributed, options, { tellAll: true, durable: true });
  const { changed: _, ...done } = await one.chunk([userId]);
  return { users: 1, ...done, seconds: (performance.now() - startedAt) / 1_000 };
}

/**
 * The feeds of these users, in chunks of some milliseconds, on from where an earlier run was. `note` is called in the
 * transaction of each chunk, or on Citus after it: what is noted is done. Throws INTERRUPTED.
 */
export async function rebuildFrom(
  db: Database,
  source: UserSource,
  options: RebuildOptions,
  earlier: RebuildProgress = NOTHING,
  note?: (session: Session | Database, progress: RebuildProgress, total: number) => Promise<void>,
): Promise<RebuildResult> {
  const startedAt = performance.now();
  const { signal, rate } = options;
  const total = await source.count();
  const topology = await db.topology();
  const shards = Math.max(1, topology.shards.length);
  const live = new LiveFirst(options.bus);
  const size = new ChunkSize(rate && Math.ceil(rate / 4 / shards));
  const rebuilder = new Rebuilder(db, topology.distributed, options, { tellAll: false, durable: false });
  let progress = earlier;
  for (;;) {
    const ids = await source.after(progress.after, size.feeds * shards);
    if (ids.length === 0) return withoutCursor(progress);
    if (signal?.aborted)
      throw new FeedctlError(
        'INTERRUPTED',
        `the rebuild was interrupted after ${progress.users} of ${total} feeds; those are done`,
      );
    const chunkAt = performance.now();
    const sofar = (parts: readonly FeedsRebuilt[]): RebuildProgress => {
      const sum = (of: (part: FeedsRebuilt) => number) => parts.reduce((all, part) => all + of(part), 0);
      return {
        after: ids.at(-1)!,
        users: progress.users + ids.length,
        items: progress.items + sum((part) => part.items),
        added: progress.added + sum((part) => part.added),
        removed: progress.removed + sum((part) => part.removed),
        seconds: earlier.seconds + (performance.now() - startedAt) / 1_000,
      };
    };
    if (topology.distributed) {
      const groups = topology.group(ids, (id) => id);
      const parts = await inParallel(groups, SHARDS_AT_A_TIME, (group) => rebuilder.chunk(group));
      progress = sofar(parts);
      await note?.(db, progress, total);
    } else {
      const part = await rebuilder.chunk(ids, async (session, done) => note?.(session, sofar([done]), total));
      progress = sofar([part]);
    }
    options.onProgress?.(progress, total, earlier.users);
    const tookMs = performance.now() - chunkAt;
    size.took(tookMs);
    if (!options.dryRun) await live.rest(tookMs, signal);
    // Told to stop meanwhile: the next round says so.
    await keepPace(progress.users - earlier.users, { rate, startedAt, signal }).catch(() => {});
  }
}

const withoutCursor = ({ after: _, ...result }: RebuildProgress): RebuildResult => result;

class Rebuilder {
  readonly #db: Database;
  readonly #distributed: boolean;
  readonly #changes: FeedChanges;
  readonly #dryRun: boolean;
  readonly #how: { readonly tellAll: boolean; readonly durable: boolean };

  /**
   * `tellAll`: caches read these feeds anew even if their rows were right. `durable`: a chunk is on disk when it is done;
   * otherwise a server that crashes may lose the last ones, and with them, as they are noted in the same
   * transactions, the note that they were done.
   */
  constructor(
    db: Database,
    distributed: boolean,
    { changes = notifiedChanges, dryRun = false }: RebuildOptions,
    how: { tellAll: boolean; durable: boolean },
  ) {
    this.#db = db;
    this.#distributed = distributed;
    this.#changes = changes;
    this.#dryRun = dryRun;
    this.#how = how;
  }

  /** On Citus users of one shard. */
  async chunk(
    ids: readonly number[],
    note?: (session: Session, done: FeedsRebuilt) => Promise<void>,
  ): Promise<FeedsRebuilt> {
    const distributed = this.#distributed;
    if (this.#dryRun)
      return distributed
        ? this.#db.rehearse((session) => rebuildFeeds(session, ids, { distributed, again: true }))
        : planRebuild(this.#db, ids);
    const toTell = (done: FeedsRebuilt) => (this.#how.tellAll ? ids : done.changed);
    const work = (again: boolean) => async (session: Session) => {
      if (!this.#how.durable && !distributed) await session.query('set local synchronous_commit = off');
      const done = await rebuildFeeds(session, ids, { distributed, again });
      if (toTell(done).length > 0) await this.#changes.changing(session, toTell(done));
      await note?.(session, done);
      return done;
    };
    const done = await repeatedTransaction(this.#db, work(false)).catch((error) => {
      if (!isDuplicate(error)) throw error;
      return repeatedTransaction(this.#db, work(true));
    });
    if (toTell(done).length > 0) await this.#changes.forget(toTell(done));
    return done;
  }
}
