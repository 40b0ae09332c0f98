import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus } from '../bus/bus.ts';
import { fanOutDrained } from '../bus/drained.ts';
import type { FeedChanges } from '../cache/changes.ts';
import type { Database, Session } from '../database/database.ts';
import { retriedTransaction } from '../database/retriedTransaction.ts';
import { runOperation, type Work } from '../operations/run.ts';
import { OperationSteps } from '../operations/steps.ts';
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

/** Followers whose feeds one transaction changes. */
const FOLLOWERS_PER_TRANSACTION = 1_000;
/** Shards that are changed at a time. */
const CONCURRENCY = 4;
/** Time by which every cache knows the rows that a backfill has added. */
const READERS_SEE_MS = 500;
/**
 * Maximum rounds of `endMerging`, some 0.5 s each: an author who posts twice a second delays the
 * change by half a minute at most.
 */
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
  /** Change by hand: from then on evaluations skip the author. */
  readonly pin?: boolean;
  readonly onProgress?: (followers: number, total: number) => void;
  /** Called when this run resumes an earlier one. */
  readonly onResume?: Work['onResume'];
  /** Maximum time that readers may use rows which they have read. Default: 500 ms. */
  readonly readersSeeMs?: number;
}

/** Steps of each direction, in their order. */
const STEPS = {
  mark: ['both', 'readers', 'pull', 'drained', 'compacted'],
  unmark: ['both', 'drained', 'filled', 'push'],
} as const;
export type CelebrityDirection = keyof typeof STEPS;
type Step = (typeof STEPS)[CelebrityDirection][number];

interface Progress {
  readonly direction: CelebrityDirection;
  /** Finished steps. */
  readonly steps: readonly Step[];
  /** Feeds of followers up to this id are changed. */
  readonly after: number;
  readonly followers: number;
  readonly items: number;
}

type Steps = OperationSteps<Progress>;

/**
 * Changes an author from push over both to pull: posts are merged when a feed is read instead of
 * fanned out. Readers never miss a post or see one twice: `both` merges before fan-out ends, and rows
 * are removed when no plan can write more. Every step may be repeated, so the next run finishes an
 * interrupted one. Throws USER_NOT_FOUND or OPERATION_RUNNING.
 */
export const markCelebrity = (
  context: CelebrityContext,
  userId: number,
  options: Options = {},
): Promise<CelebrityResult> =>
  change(context, userId, options, 'mark', async (author, steps) => {
    await steps.step('both', () => author.pushState === 'push' && setPushState(context.db, userId, 'both'));
    await steps.step(
      'readers',
      () => author.pushState !== 'pull' && forgetFeedsOfFollowers(context, userId, steps.signal),
    );
    await steps.step('pull', () => setPushState(context.db, userId, 'pull'));
    await steps.step('drained', () => fanOutDrained(context, steps.signal));
    await steps.step('compacted', () => changeFeeds(context, author, options, steps, removeAuthorItems));
  });

/**
 * Changes an author from pull over both to push: rows are backfilled while posts are still merged,
 * then merging ends. Throws as `markCelebrity`.
 */
export const unmarkCelebrity = (
  context: CelebrityContext,
  userId: number,
  options: Options = {},
): Promise<CelebrityResult> =>
  change(context, userId, options, 'unmark', async (author, steps) => {
    await steps.step('both', () => setPushState(context.db, userId, 'both'));
    // Posts planned in state pull got no rows. Once they have drained, the backfill finds all of them.
    await steps.step('drained', () => fanOutDrained(context, steps.signal));
    await steps.step('filled', () =>
      changeFeeds(context, author, options, steps, async (session, authorId, ids) => {
        await lockPushStates(session);
        return backfillFollowers(session, authorId, ids);
      }),
    );
    await steps.step('push', () => endMerging(context, userId, steps.signal, options.readersSeeMs));
  });

/**
 * Ends merging, if the author has not posted since the last drain began and every cache knows the new
 * rows. Otherwise a merged post whose rows are not written yet would vanish until its fan-out is done.
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
  work: (author: User, steps: Steps) => Promise<void>,
): Promise<CelebrityResult> {
  const wanted = direction === 'mark' ? 'pull' : 'push';
  const { pushState, followerCount } = await getUser(db, userId);
  const untouched = { userId, followers: followerCount, items: 0 };
  if (dryRun) return { ...untouched, changed: pushState !== wanted };
  return runOperation<Progress, CelebrityResult>(
    db,
    { kind: 'celebrity', key: String(userId), signal, onResume },
    async (run) => {
      // Read again: another run may have ended in between.
      const author = await getUser(db, userId);
      if (pin) await pinPushState(db, userId, true);
      if (direction === 'unmark' && author.pushState === 'push') return { ...untouched, changed: false };
      await run.blockCancel(
        `author ${userId} is between push and pull: ` +
          `\`feedctl celebrity mark ${userId}\` or \`unmark\` ends that`,
      );
      // A run in the other direction is not resumed: this one begins with its first step.
      const earlier = run.progress?.direction === direction ? run.progress : undefined;
      const begun = earlier ?? { direction, steps: [], after: 0, followers: 0, items: 0 };
      const steps: Steps = new OperationSteps<Progress>(db, run, begun, (progress) => ({
        done: progress.followers,
        total: author.followerCount,
        unit: 'feeds',
      }));
      await work(author, steps);
      const { followers, items } = steps.progress;
      return { userId, followers, items, changed: earlier !== undefined || author.pushState !== wanted };
    },
  );
}

/** Drops the feeds of all followers from the shared cache, which stores a feed with its celebrities. */
async function forgetFeedsOfFollowers(
  { db, changes }: CelebrityContext,
  authorId: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for await (const ids of followerBatches(db, authorId, signal)) await changes.forget(ids);
}

async function* followerBatches(
  db: Database,
  authorId: number,
  signal: AbortSignal | undefined,
  { from = 0, size = FOLLOWERS_PER_TRANSACTION } = {},
): AsyncGenerator<number[]> {
  for (let after = from; ; ) {
    signal?.throwIfAborted();
    const ids = await followersAfter(db, authorId, after, size);
    if (ids.length === 0) return;
    yield ids;
    after = ids.at(-1)!;
  }
}

/** Changes the feeds of all followers, some thousand at a time, and saves the progress after each batch. */
async function changeFeeds(
  { db, changes }: CelebrityContext,
  author: { id: number; followerCount: number },
  options: Options,
  steps: Steps,
  change: (session: Session, authorId: number, userIds: readonly number[]) => Promise<number>,
): Promise<void> {
  const sharding = await db.sharding();
  const size = FOLLOWERS_PER_TRANSACTION * Math.max(1, sharding.shards.length);
  const from = steps.progress.after;
  for await (const ids of followerBatches(db, author.id, steps.signal, { from, size })) {
    const counts = await runConcurrently(
      sharding.group(ids, (id) => id),
      CONCURRENCY,
      (group) =>
        retriedTransaction(db, async (session) => {
          const rows = await change(session, author.id, group);
          await changes.changing(session, group);
          return rows;
        }),
    );
    await changes.forget(ids);
    const { followers, items } = steps.progress;
    await steps.save({
      after: ids.at(-1)!,
      followers: followers + ids.length,
      items: counts.reduce((sum, count) => sum + count, items),
    });
    options.onProgress?.(steps.progress.followers, author.followerCount);
  }
}
