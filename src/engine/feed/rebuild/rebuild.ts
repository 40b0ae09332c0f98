import type { Bus } from '../../bus/bus.ts';
import type { FeedChanges } from '../../cache/changes.ts';
import { notifiedChanges } from '../../cache/invalidation.ts';
import type { Database } from '../../database/database.ts';
import { isDuplicate } from '../../database/errors.ts';
import { retriedTransaction } from '../../database/retriedTransaction.ts';
import type { Queryable, Session } from '../../database/types.ts';
import { FeedctlError } from '../../model/errors.ts';
import { MAX_ID } from '../../model/ids.ts';
import type { LaneState } from '../../model/lanes.ts';
import { getUser } from '../../store/users.ts';
import { paceCalls } from '../../util/pace.ts';
import { runConcurrently } from '../../util/parallel.ts';
import { type BulkLane, CHUNKS, ChunkSize, LiveFirst } from './pace.ts';
import { type FeedsRebuilt, planRebuild, rebuildFeeds } from './postgres.ts';
import { allUsers, type UserSource } from './users.ts';

/** On Citus, where each shard's feeds are a transaction of their own. */
const SHARDS_AT_A_TIME = 4;
/** Otherwise, in transactions of their own: one for each of a small machine's cores. */
const CONCURRENCY = 2;

export interface RebuildResult {
  readonly users: number;
  /** Rows that the rebuilt feeds hold. */
  readonly items: number;
  /** Rows that were missing, or had a wrong author, and rows that were too many. */
  readonly added: number;
  readonly removed: number;
  readonly seconds: number;
}

type Counts = Omit<RebuildResult, 'seconds'>;

/** Users above `after`, up to and with `upTo`, are still to be done. */
export interface RebuildLane extends Counts {
  readonly after: number;
  readonly upTo: number;
}

/** How far a rebuild has come. */
export interface RebuildProgress {
  readonly lanes: readonly RebuildLane[];
  readonly seconds: number;
}

/** What an operation notes of a rebuild: at its beginning, and in the transaction of each chunk, or on Citus after it. */
export interface RebuildNotes {
  begin(progress: RebuildProgress, total: number): Promise<void>;
  chunk(
    session: Queryable,
    noted: { index: number; lane: RebuildLane; done: number; seconds: number },
  ): Promise<void>;
}

export interface RebuildOptions {
  readonly changes?: FeedChanges;
  /** Where there is one, live fan-out goes first. */
  readonly bus?: Bus | undefined;
  /** Where there is one, what operators did to it holds. */
  readonly bulk?: BulkLane | undefined;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  /** Feeds a second at most. */
  readonly rate?: number | undefined;
  /** `before`: feeds of earlier runs, which are among those of `progress`. */
  readonly onProgress?: (
    progress: RebuildResult,
    total: number,
    before: number,
    /** It is paused: told again and again. */
    waitsFor?: LaneState,
  ) => void;
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
  const { distributed } = await db.sharding();
  const one = new Rebuilder(db, distributed, options, { tellAll: true, durable: true });
  const { changed: _, ...done } = await one.chunk([userId]);
  return { users: 1, ...done, seconds: (performance.now() - startedAt) / 1_000 };
}

/**
 * The feeds of these users, in chunks of some milliseconds, on from where an earlier run was. What is noted is done. Throws
 * INTERRUPTED.
 */
export async function rebuildFrom(
  db: Database,
  source: UserSource,
  options: RebuildOptions,
  earlier?: RebuildProgress,
  notes?: RebuildNotes,
): Promise<RebuildResult> {
  const startedAt = performance.now();
  const { signal } = options;
  const total = await source.count();
  const { distributed } = await db.sharding();
  const lanes = [...(earlier?.lanes ?? (await lanesOf(source, total, distributed ? 1 : CONCURRENCY)))];
  if (!earlier) await notes?.begin({ lanes, seconds: 0 }, total);
  const before = sumOf(lanes, (lane) => lane.users);
  const now = (): RebuildResult => ({
    users: sumOf(lanes, (lane) => lane.users),
    items: sumOf(lanes, (lane) => lane.items),
    added: sumOf(lanes, (lane) => lane.added),
    removed: sumOf(lanes, (lane) => lane.removed),
    seconds: (earlier?.seconds ?? 0) + (performance.now() - startedAt) / 1_000,
  });
  const failed = new AbortController();
  const stop = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
  const rebuilder = new Rebuilder(db, distributed, options, { tellAll: false, durable: false });
  const live = new LiveFirst(options.dryRun ? undefined : options.bus);
  const bulk = options.dryRun ? undefined : options.bulk;
  const rate = options.rate && options.rate / lanes.length;
  const run = async (index: number) => {
    const progress = {
      current: () => lanes[index]!,
      set: (lane: RebuildLane) => {
        lanes[index] = lane;
        options.onProgress?.(now(), total, before);
      },
      waits: (paused: LaneState) => options.onProgress?.(now(), total, before, paused),
      note: async (session: Queryable, lane: RebuildLane) =>
        notes?.chunk(session, {
          index,
          lane,
          done: lane.users - lanes[index]!.users,
          seconds: now().seconds,
        }),
    };
    try {
      await rebuildLane(db, source, rebuilder, progress, { live, bulk, rate, stop });
    } catch (error) {
      failed.abort();
      throw error;
    }
  };
  await runConcurrently([...lanes.keys()], lanes.length, run);
  if (signal?.aborted && lanes.some(({ after, upTo }) => after < upTo))
    throw new FeedctlError(
      'INTERRUPTED',
      `the rebuild was interrupted after ${now().users} of ${total} feeds; those are done`,
    );
  return now();
}

const sumOf = <T>(parts: readonly T[], of: (part: T) => number): number =>
  parts.reduce((sum, part) => sum + of(part), 0);

/** Equal parts of the users, those who come meanwhile in the last. */
async function lanesOf(source: UserSource, total: number, count: number): Promise<RebuildLane[]> {
  const lanes: RebuildLane[] = [];
  let after = 0;
  for (let n = 1; n <= count; n += 1) {
    const last = n < count ? await source.at(Math.floor((total * n) / count)) : undefined;
    const upTo = last ?? MAX_ID;
    lanes.push({ after, upTo, users: 0, items: 0, added: 0, removed: 0 });
    if (upTo === MAX_ID) break;
    after = upTo;
  }
  return lanes;
}

/** One lane to its end, or until it is told to stop. `note`: in a chunk's transaction, or on Citus after it. */
async function rebuildLane(
  db: Database,
  source: UserSource,
  rebuilder: Rebuilder,
  progress: {
    current(): RebuildLane;
    set(lane: RebuildLane): void;
    waits(paused: LaneState): void;
    note(session: Queryable, lane: RebuildLane): Promise<void>;
  },
  how: { live: LiveFirst; bulk: BulkLane | undefined; rate: number | undefined; stop: AbortSignal },
): Promise<void> {
  const { live, bulk, rate, stop } = how;
  const startedAt = performance.now();
  const sharding = await db.sharding();
  const shards = Math.max(1, sharding.shards.length);
  const limits = sharding.distributed ? CHUNKS.sharded : CHUNKS.plain;
  const size = new ChunkSize(limits, rate && Math.ceil(rate / 4 / shards));
  const first = progress.current().users;
  while (!stop.aborted) {
    await bulk?.ready(stop, progress.waits);
    if (stop.aborted) return;
    const lane = progress.current();
    const most = size.feeds * shards;
    const found = await source.after(lane.after, bulk?.most(most) ?? most);
    const ids = found.filter((id) => id <= lane.upTo);
    if (ids.length === 0) return progress.set({ ...lane, after: lane.upTo });
    const doneWith = (parts: readonly FeedsRebuilt[]): RebuildLane => ({
      after: ids.at(-1)!,
      upTo: lane.upTo,
      users: lane.users + ids.length,
      items: lane.items + sumOf(parts, (part) => part.items),
      added: lane.added + sumOf(parts, (part) => part.added),
      removed: lane.removed + sumOf(parts, (part) => part.removed),
    });
    if (sharding.distributed) {
      const groups = sharding.group(ids, (id) => id);
      const parts = await runConcurrently(groups, SHARDS_AT_A_TIME, async (group) => {
        // What is done of this chunk is done once more by the next run.
        if (stop.aborted) return undefined;
        const { result, ms } = await live.run(() => rebuilder.chunk(group), stop);
        return { ...result, ms };
      });
      const all = parts.filter((part) => part !== undefined);
      if (all.length < parts.length) return;
      const done = doneWith(all);
      await progress.note(db, done);
      progress.set(done);
      size.took(Math.max(...all.map((part) => part.ms)), live.busy);
    } else {
      const note = async (session: Session, part: FeedsRebuilt) => progress.note(session, doneWith([part]));
      const { result, ms } = await live.run(() => rebuilder.chunk(ids, note), stop);
      progress.set(doneWith([result]));
      size.took(ms, live.busy);
    }
    const now = progress.current();
    bulk?.wrote(now.added + now.removed - lane.added - lane.removed, now.users - lane.users);
    // Told to stop meanwhile: the loop ends.
    const done = now.users - first;
    await paceCalls(done, { rate, startedAt, signal: stop }).catch(() => {});
  }
}

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
    const done = await retriedTransaction(this.#db, work(false)).catch((error) => {
      if (!isDuplicate(error)) throw error;
      return retriedTransaction(this.#db, work(true));
    });
    if (toTell(done).length > 0) await this.#changes.forget(toTell(done));
    return done;
  }
}
