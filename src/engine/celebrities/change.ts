import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus } from '../bus/bus.ts';
import { fanOutDrained } from '../bus/drained.ts';
import type { FeedChanges } from '../cache/changes.ts';
import type { Database, Session } from '../database/database.ts';
import { retriedTransaction } from '../database/retriedTransaction.ts';
import { type Operation, runOperation, saveProgress, type Work } from '../operations/run.ts';
import {
  backfillFollowers,
  followersAfter,
  lockPushStates,
  pinPushState,
  removeAuthorItems,
  setPushState,
  setPushStateUnless,
} from '../store/celebrities.ts';
import { countPosted } from '../store/events.ts';
import { getUser, type User } from '../store/users.ts';
import { runConcurrently } from '../util/parallel.ts';

const FOLLOWERS_A_TRANSACTION = 1_000;
const SHARDS_AT_A_TIME = 4;
/** By then every cache has heard of the rows that a backfill has added. */
const READERS_SEE_MS = 500;
/** An author who posts twice a second for half a minute does not keep it from ending. */
const MAX_ROUNDS = 50;

export interface CelebrityResult {
  readonly userId: number;
  readonly followers: number;
  /** Feed rows removed (mark) or added (unmark). */
  readonly items: number;
  readonly changed: boolean;
}

export interface CelebrityContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly changes: FeedChanges;
}

interface Options {
  readonly signal?: AbortSignal | undefined;
  readonly dryRun?: boolean;
  /** By hand: evaluations leave the author as they are from then on. */
  readonly pin?: boolean;
  readonly onProgress?: (followers: number, total: number) => void;
  /** This run goes on with what an earlier one had noted. */
  readonly onResume?: Work['onResume'];
  /** How long readers may go on with what they have read. */
  readonly readersSeeMs?: number;
}

/** In the order in which they are taken. */
const STEPS = {
  mark: ['both', 'readers', 'pull', 'drained', 'compacted'],
  unmark: ['both', 'drained', 'filled', 'push'],
} as const;
export type CelebrityDirection = keyof typeof STEPS;
type Step = (typeof STEPS)[CelebrityDirection][number];

/** As it is noted: what is finished is not done again by whoever goes on. */
interface Progress {
  readonly direction: CelebrityDirection;
  /** Those that are finished. */
  readonly steps: readonly Step[];
  /** Feeds of followers up to this id are done. */
  readonly after: number;
  readonly followers: number;
  readonly items: number;
}

/**
 * From push over both to pull: the author's posts are no longer fanned out but merged when a feed is read. At no
 * moment does a reader miss a post or see one twice: `both` merges before rows end, rows are removed when nothing
 * more can write any. Every step may be repeated, so a run that was cut off is finished by the next.
 * Throws USER_NOT_FOUND or OPERATION_RUNNING.
 */
export const markCelebrity = (
  context: CelebrityContext,
  userId: number,
  options: Options = {},
): Promise<CelebrityResult> =>
  change(context, userId, options, 'mark', async (author, saga) => {
    await saga.step('both', () => author.pushState === 'push' && setPushState(context.db, userId, 'both'));
    await saga.step(
      'readers',
      () => author.pushState !== 'pull' && forgetFeedsOfFollowers(context, userId, saga.signal),
    );
    await saga.step('pull', () => setPushState(context.db, userId, 'pull'));
    await saga.step('drained', () => fanOutDrained(context, saga.signal));
    await saga.step('compacted', () => overFollowers(context, author, options, saga, removeAuthorItems));
  });

/**
 * From pull over both to push: rows are filled in while posts are still merged, and only then merging ends. Throws as
 * `markCelebrity`.
 */
export const unmarkCelebrity = (
  context: CelebrityContext,
  userId: number,
  options: Options = {},
): Promise<CelebrityResult> =>
  change(context, userId, options, 'unmark', async (author, saga) => {
    await saga.step('both', () => setPushState(context.db, userId, 'both'));
    // Posts planned while the author was pulled got no rows: once they have drained, the backfill finds them all.
    await saga.step('drained', () => fanOutDrained(context, saga.signal));
    await saga.step('filled', () =>
      overFollowers(context, author, options, saga, async (session, authorId, ids) => {
        await lockPushStates(session);
        return backfillFollowers(session, authorId, ids);
      }),
    );
    await saga.step('push', () => endMerging(context, userId, saga.signal, options.readersSeeMs));
  });

/**
 * A post that was merged and is not yet in the feeds would be gone for as long as its fan-out takes. So merging ends
 * only where the author has not posted since before everything was drained, and every cache has heard of it.
 */
async function endMerging(
  context: CelebrityContext,
  userId: number,
  signal: AbortSignal,
  readersSeeMs: number = READERS_SEE_MS,
): Promise<void> {
  const { db } = context;
  for (let round = 1; ; round += 1) {
    const posted = await countPosted(db, userId);
    await fanOutDrained(context, signal);
    await sleep(readersSeeMs);
    const ended = await setPushStateUnless(db, userId, 'push', async (session) => {
      return round < MAX_ROUNDS && (await countPosted(session, userId)) !== posted;
    });
    if (ended) return;
  }
}

async function change(
  { db }: CelebrityContext,
  userId: number,
  { dryRun, pin, signal, onResume }: Options,
  direction: CelebrityDirection,
  work: (author: User, saga: Saga) => Promise<void>,
): Promise<CelebrityResult> {
  const wanted = direction === 'mark' ? 'pull' : 'push';
  const { pushState, followerCount } = await getUser(db, userId);
  const untouched = { userId, followers: followerCount, items: 0 };
  if (dryRun) return { ...untouched, changed: pushState !== wanted };
  return runOperation<Progress, CelebrityResult>(
    db,
    { kind: 'celebrity', key: String(userId), signal, onResume },
    async (run) => {
      // As it is now: another run may have ended in between.
      const author = await getUser(db, userId);
      if (pin) await pinPushState(db, userId, true);
      if (direction === 'unmark' && author.pushState === 'push') return { ...untouched, changed: false };
      await run.blockCancel(
        `author ${userId} is between push and pull: \`feedctl celebrity mark ${userId}\` or \`unmark\` ends that`,
      );
      const saga = new Saga(db, run, direction, author.followerCount);
      await work(author, saga);
      const { followers, items } = saga.progress;
      return { userId, followers, items, changed: saga.resumed || author.pushState !== wanted };
    },
  );
}

/** One change of state: notes each step that is finished, and passes over those that an earlier run has. */
class Saga {
  readonly #db: Database;
  readonly #operationId: number;
  /** It goes on with what an earlier run began. One in the other direction is compensated: from the first step. */
  readonly resumed: boolean;
  readonly signal: AbortSignal;
  readonly #total: number;
  progress: Progress;

  constructor(db: Database, run: Operation<Progress>, direction: CelebrityDirection, followers: number) {
    this.#db = db;
    this.signal = run.signal;
    this.#total = followers;
    this.#operationId = run.id;
    this.resumed = run.progress?.direction === direction;
    this.progress = this.resumed ? run.progress! : { direction, steps: [], after: 0, followers: 0, items: 0 };
  }

  async step(step: Step, work: () => unknown): Promise<void> {
    if (this.progress.steps.includes(step)) return;
    await work();
    await this.note({ steps: [...this.progress.steps, step] });
  }

  async note(progress: Partial<Progress>): Promise<void> {
    this.progress = { ...this.progress, ...progress };
    const counts = { done: this.progress.followers, total: this.#total, unit: 'feeds' };
    await saveProgress(this.#db, this.#operationId, this.progress, counts);
  }
}

/** A shared cache keeps a feed with its celebrities: from then on none is without this one. */
async function forgetFeedsOfFollowers(
  { db, changes }: CelebrityContext,
  authorId: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for await (const ids of followerChunks(db, authorId, signal)) await changes.forget(ids);
}

async function* followerChunks(
  db: Database,
  authorId: number,
  signal: AbortSignal | undefined,
  { from = 0, size = FOLLOWERS_A_TRANSACTION } = {},
): AsyncGenerator<number[]> {
  for (let after = from; ; ) {
    signal?.throwIfAborted();
    const ids = await followersAfter(db, authorId, after, size);
    if (ids.length === 0) return;
    yield ids;
    after = ids.at(-1)!;
  }
}

/** Some thousand feeds at a time, noted when they are done. */
async function overFollowers(
  { db, changes }: CelebrityContext,
  author: { id: number; followerCount: number },
  options: Options,
  saga: Saga,
  change: (session: Session, authorId: number, userIds: readonly number[]) => Promise<number>,
): Promise<void> {
  const sharding = await db.sharding();
  const size = FOLLOWERS_A_TRANSACTION * Math.max(1, sharding.shards.length);
  for await (const ids of followerChunks(db, author.id, saga.signal, {
    from: saga.progress.after,
    size,
  })) {
    const counts = await runConcurrently(
      sharding.group(ids, (id) => id),
      SHARDS_AT_A_TIME,
      (group) =>
        retriedTransaction(db, async (session) => {
          const rows = await change(session, author.id, group);
          await changes.changing(session, group);
          return rows;
        }),
    );
    await changes.forget(ids);
    const { followers, items } = saga.progress;
    await saga.note({
      after: ids.at(-1)!,
      followers: followers + ids.length,
      items: counts.reduce((sum, count) => sum + count, items),
    });
    options.onProgress?.(saga.progress.followers, author.followerCount);
  }
}
