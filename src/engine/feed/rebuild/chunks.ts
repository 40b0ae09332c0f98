import type { FeedChanges } from '../../cache/changes.ts';
import { notifiedChanges } from '../../cache/invalidation.ts';
import type { Database } from '../../database/database.ts';
import { isDuplicate } from '../../database/errors.ts';
import { retriedTransaction } from '../../database/retriedTransaction.ts';
import type { Sharding } from '../../database/sharding.ts';
import type { Queryable, Session } from '../../database/types.ts';
import type { LaneState } from '../../model/lanes.ts';
import { paceCalls } from '../../util/pace.ts';
import { runConcurrently } from '../../util/parallel.ts';
import type { BulkLaneGate } from './bulkLaneGate.ts';
import { ChunkSize, type LivePriority } from './pace.ts';
import { partAfter, type RebuildPart } from './progress.ts';
import type { UserSource } from './users.ts';
import type { FeedsRebuilt, RebuildVariant } from './variant.ts';
import { rebuildVariant } from './variants.ts';

/** Shards of a chunk that are rebuilt concurrently, on Citus. */
const SHARD_CONCURRENCY = 4;

interface ChunkRebuilderOptions {
  readonly changes?: FeedChanges | undefined;
  readonly dryRun?: boolean | undefined;
  /** Caches drop these feeds even if their rows were right. */
  readonly invalidateAll: boolean;
  /**
   * A chunk is on disk when it is done. Otherwise a crash of the server may lose the last chunks.
   * The progress is in the same transactions, so it is lost with them.
   */
  readonly durable: boolean;
}

/** Rebuilds a few feeds in one transaction. On Citus they belong to one shard. */
export class ChunkRebuilder {
  readonly #db: Database;
  readonly #variant: RebuildVariant;
  readonly #changes: FeedChanges;
  readonly #options: ChunkRebuilderOptions;

  constructor(db: Database, variant: RebuildVariant, options: ChunkRebuilderOptions) {
    this.#db = db;
    this.#variant = variant;
    this.#changes = options.changes ?? notifiedChanges;
    this.#options = options;
  }

  /** `save` runs in the transaction. */
  async rebuild(
    userIds: readonly number[],
    save?: (session: Session, rebuilt: FeedsRebuilt) => Promise<void>,
  ): Promise<FeedsRebuilt> {
    const { dryRun, durable, invalidateAll } = this.#options;
    if (dryRun) return this.#variant.preview(this.#db, userIds);
    const invalidated = ({ changed }: FeedsRebuilt) => (invalidateAll ? userIds : changed);
    const work = (isRetry: boolean) => async (session: Session) => {
      if (!durable && this.#variant.atomicChunks) await session.query('set local synchronous_commit = off');
      const rebuilt = await this.#variant.rebuild(session, userIds, isRetry);
      if (invalidated(rebuilt).length > 0) await this.#changes.changing(session, invalidated(rebuilt));
      await save?.(session, rebuilt);
      return rebuilt;
    };
    const rebuilt = await retriedTransaction(this.#db, work(false)).catch((error) => {
      if (!isDuplicate(error)) throw error;
      return retriedTransaction(this.#db, work(true));
    });
    if (invalidated(rebuilt).length > 0) await this.#changes.forget(invalidated(rebuilt));
    return rebuilt;
  }
}

/** Progress of one part of the users. */
export interface PartProgress {
  current(): RebuildPart;
  set(part: RebuildPart): void;
  waits(paused: LaneState): void;
  save(session: Queryable, part: RebuildPart): Promise<void>;
}

export interface PartContext {
  readonly db: Database;
  readonly source: UserSource;
  readonly sharding: Sharding;
  readonly rebuilder: ChunkRebuilder;
  readonly live: LivePriority;
  readonly bulk: BulkLaneGate | undefined;
  /** Maximum number of feeds per second. */
  readonly rate: number | undefined;
  readonly signal: AbortSignal;
}

/** Rebuilds one part of the users, chunk by chunk. */
export class PartRebuild {
  readonly #context: PartContext;
  readonly #progress: PartProgress;
  readonly #shards: number;
  readonly #size: ChunkSize;

  constructor(context: PartContext, progress: PartProgress) {
    this.#context = context;
    this.#progress = progress;
    this.#shards = Math.max(1, context.sharding.shards.length);
    const { rate, sharding } = context;
    this.#size = new ChunkSize(
      rebuildVariant(sharding).chunkLimits,
      rate && Math.ceil(rate / 4 / this.#shards),
    );
  }

  /** Returns at the end of the part, or after the current chunk when the signal aborts. */
  async run(): Promise<void> {
    const { rate, bulk, signal } = this.#context;
    const startedAt = performance.now();
    const first = this.#progress.current().users;
    while (!signal.aborted) {
      await bulk?.ready(signal, this.#progress.waits);
      if (signal.aborted) return;
      const part = this.#progress.current();
      const ids = await this.#nextUsers(part);
      if (ids.length === 0) return this.#progress.set({ ...part, after: part.upTo });
      if (!(await this.#chunk(part, ids))) return;
      const now = this.#progress.current();
      bulk?.wrote(now.added + now.removed - part.added - part.removed, now.users - part.users);
      // An abort rejects the wait. The loop then ends.
      await paceCalls(now.users - first, { rate, startedAt, signal }).catch(() => {});
    }
  }

  async #nextUsers({ after, upTo }: RebuildPart): Promise<number[]> {
    const { source, bulk } = this.#context;
    const feeds = this.#size.feeds * this.#shards;
    const ids = await source.after(after, bulk?.max(feeds) ?? feeds);
    return ids.filter((id) => id <= upTo);
  }

  /** Returns false if the signal aborted the chunk. */
  #chunk(part: RebuildPart, ids: readonly number[]): Promise<boolean> {
    const { sharding } = this.#context;
    return rebuildVariant(sharding).atomicChunks
      ? this.#atomicChunk(part, ids)
      : this.#shardedChunk(part, ids);
  }

  async #atomicChunk(part: RebuildPart, ids: readonly number[]): Promise<boolean> {
    const { live, rebuilder, signal } = this.#context;
    const save = (session: Session, rebuilt: FeedsRebuilt) =>
      this.#progress.save(session, partAfter(part, ids, [rebuilt]));
    const { result, ms } = await live.run(() => rebuilder.rebuild(ids, save), signal);
    this.#progress.set(partAfter(part, ids, [result]));
    this.#size.took(ms, live.busy);
    return true;
  }

  async #shardedChunk(part: RebuildPart, ids: readonly number[]): Promise<boolean> {
    const { db, live, rebuilder, sharding, signal } = this.#context;
    const groups = sharding.group(ids, (id) => id);
    const results = await runConcurrently(groups, SHARD_CONCURRENCY, async (group) => {
      // The next run repeats the shards of this chunk that are done.
      if (signal.aborted) return undefined;
      return live.run(() => rebuilder.rebuild(group), signal);
    });
    const done = results.filter((result) => result !== undefined);
    if (done.length < results.length) return false;
    const after = partAfter(
      part,
      ids,
      done.map(({ result }) => result),
    );
    await this.#progress.save(db, after);
    this.#progress.set(after);
    this.#size.took(Math.max(...done.map(({ ms }) => ms)), live.busy);
    return true;
  }
}
