import { setTimeout as sleep } from 'node:timers/promises';
import { fanOutDrained } from '../bus/drained.ts';
import { markStale } from '../cache/changes.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { liveQueue } from '../live/notifier.ts';
import { announceErased } from '../live/presence.ts';
import { isFeedctlError } from '../model/errors.ts';
import { firstIdAt } from '../model/ids.ts';
import { encodeLive, RETRACTED } from '../model/messages.ts';
import { lastOperation, runOperation, type Work } from '../operations/run.ts';
import { OperationSteps } from '../operations/steps.ts';
import { deleteStatsOfUser } from '../stats/table.ts';
import { fillsEnded } from '../store/celebrities.ts';
import { ERASE_KIND } from '../store/erasures.ts';
import { listGateways } from '../store/processes.ts';
import { forgetSamplesOf } from '../store/samples.ts';
import { getUser } from '../store/users.ts';
import { runConcurrently } from '../util/parallel.ts';
import { poll } from '../util/poll.ts';
import { eraseFromDeadLetters, residueInMessages } from './messages.ts';
import { findResidue, type Residue } from './residue.ts';
import {
  blankPosts,
  countUserRows,
  forgetFollowers,
  forgetOperations,
  openPresence,
  removeFollowersOf,
  removeFollowsOf,
  removeOwnRows,
  removePosts,
  removeStrays,
  removeUser,
  type UserRows,
} from './sql.ts';

type EraseContext = Pick<Cluster, 'db' | 'bus' | 'changes' | 'sharedCache'>;

/** Steps in their order. Each may be repeated. */
export const ERASE_STEPS = [
  'user',
  'posts',
  'sockets',
  'drained',
  'followers',
  'follows',
  'own rows',
  'messages',
  'strays',
  'cache',
] as const;
export type EraseStep = (typeof ERASE_STEPS)[number];

export interface ErasePlan extends UserRows {
  readonly userId: number;
}

/** Row counts from the start of the first run: a resumed run has already removed some of them. */
export interface EraseResult extends ErasePlan {
  /** Findings of the final scan. Empty: nothing of the user is left. */
  readonly left: readonly Residue[];
}

interface Progress {
  readonly plan: ErasePlan;
  readonly steps: readonly EraseStep[];
}

/** A gateway without a heartbeat for this long is dead. */
const HEARTBEAT_TIMEOUT_SECONDS = 30;
/** Interval at which gateways are asked again to close the user's sockets. */
const ANNOUNCE_INTERVAL_MS = 1_000;
const POLL_MS = 50;
/** Posts that are invalidated in caches at the same time. */
const CONCURRENCY = 8;
/** Age up to which posts may still be on the screens of followers. */
const RETRACT_MS = 24 * 3_600_000;
/** Maximum scans, 10 s: a message that names the user is found until it is handled. */
const MAX_SCANS = 40;
const SCAN_RETRY_MS = 250;

/**
 * Counts what an erasure would remove. Accepts a user whose erasure has begun, even if the user's row
 * is deleted. Throws USER_NOT_FOUND.
 */
export async function planErasure(db: EraseContext['db'], userId: number): Promise<ErasePlan> {
  try {
    await getUser(db, userId);
  } catch (error) {
    if (!isFeedctlError(error, 'USER_NOT_FOUND') || !(await lastOperation(db, ERASE_KIND, String(userId))))
      throw error;
  }
  return { userId, ...(await countUserRows(db, userId)) };
}

interface EraseOptions {
  readonly signal?: AbortSignal;
  readonly onStep?: (step: EraseStep | 'scan', done: number) => void;
  readonly onResume?: Work['onResume'];
}

/**
 * Erases a user from tables, feeds, caches, sockets, queues and dead letters, then scans for what is
 * left. Texts are deleted and feeds stop showing posts after the first two steps. Rows in flight are
 * waited for before their tables are emptied. The next run resumes an interrupted one.
 * Throws USER_NOT_FOUND, OPERATION_RUNNING and the abort reason of the signal.
 */
export async function eraseUser(
  context: EraseContext,
  userId: number,
  options: EraseOptions = {},
): Promise<EraseResult> {
  const { db } = context;
  const { signal, onStep, onResume } = options;
  const plan = await planErasure(db, userId);
  const work = { kind: ERASE_KIND, key: String(userId), signal, onResume };
  return runOperation<Progress, EraseResult>(db, work, async (run) => {
    await run.blockCancel(`user ${userId} is erased in part: \`feedctl user erase ${userId}\` continues`);
    const progress: Progress = run.progress ?? { plan, steps: [] };
    const steps = new OperationSteps<Progress>(db, run, progress, ({ steps }) => ({
      done: steps.length,
      total: ERASE_STEPS.length,
      unit: 'steps',
    }));
    await steps.save({});
    const erasure = new Erasure(context, userId, run.signal);
    for (const [done, step] of ERASE_STEPS.entries())
      await steps.step(step, () => {
        onStep?.(step, done);
        return erasure.run(step);
      });
    onStep?.('scan', ERASE_STEPS.length);
    return { ...steps.progress.plan, left: await erasure.scan() };
  });
}

/** Erases one user, step by step. */
class Erasure {
  readonly #context: EraseContext;
  readonly #userId: number;
  readonly #signal: AbortSignal;

  constructor(context: EraseContext, userId: number, signal: AbortSignal) {
    this.#context = context;
    this.#userId = userId;
    this.#signal = signal;
  }

  async run(step: EraseStep): Promise<unknown> {
    const { db, bus } = this.#context;
    switch (step) {
      case 'user':
        await removeUser(db, this.#userId);
        // A cached feed would be served although its owner is deleted.
        return this.#invalidate([this.#userId]);
      case 'posts':
        return this.#erasePosts();
      case 'sockets':
        return this.#closeSockets();
      case 'drained':
        // From here on no older plan writes rows, and no older follow is applied.
        return fanOutDrained({ db, bus }, this.#signal);
      case 'followers':
        return this.#removeFollowers();
      case 'follows':
        while ((await removeFollowsOf(db, this.#userId)) > 0) this.#signal.throwIfAborted();
        return;
      case 'own rows':
        await removeOwnRows(db, this.#userId);
        await forgetOperations(db, this.#userId, ERASE_KIND);
        return this.#invalidate([this.#userId]);
      case 'messages':
        return eraseFromDeadLetters(db, bus, this.#userId);
      case 'strays':
        return removeStrays(db, this.#userId, (ids) => this.#invalidate(ids));
      case 'cache':
        await this.#context.changes.erased(this.#userId);
        // Gateways may have cached the user again since the first announcement.
        await announceErased(db, this.#userId);
        await forgetSamplesOf(db, this.#userId);
        return deleteStatsOfUser(db, this.#userId);
    }
  }

  /**
   * Returns what is left of the user. Rows that appear meanwhile, as those of a post that was being
   * made, are removed and scanned for again.
   */
  async scan(): Promise<Residue[]> {
    const { db, changes } = this.#context;
    for (let scans = 1; ; scans += 1) {
      const left = await residueOf(this.#context, this.#userId);
      if (left.length === 0 || scans === MAX_SCANS) return left;
      this.#signal.throwIfAborted();
      await sleep(SCAN_RETRY_MS, undefined, { signal: this.#signal });
      if (left.every(({ where }) => where.startsWith('bus.'))) continue;
      await this.#erasePosts();
      await removeOwnRows(db, this.#userId);
      await removeStrays(db, this.#userId, (ids) => this.#invalidate(ids));
      await changes.erased(this.#userId);
    }
  }

  #invalidate(userIds: readonly number[]): Promise<void> {
    return markStale(this.#context, userIds);
  }

  /**
   * Blanks posts, invalidates caches, retracts the posts from sockets, then deletes the rows. A run that
   * is interrupted in between leaves the ids that the next run needs to repeat this.
   */
  async #erasePosts(): Promise<void> {
    const { db, changes } = this.#context;
    const authorId = this.#userId;
    for (let ids = await blankPosts(db, authorId); ids.length > 0; ids = await blankPosts(db, authorId)) {
      await runConcurrently(ids, CONCURRENCY, (postId) => changes.deleted({ postId, authorId }));
      await this.#retract(ids);
      await removePosts(db, authorId, ids);
      this.#signal.throwIfAborted();
    }
  }

  /** Retracts the posts of the last day from the screens of followers who are online. */
  async #retract(ids: readonly number[]): Promise<void> {
    const { db, bus } = this.#context;
    const since = firstIdAt(Date.now() - RETRACT_MS);
    const recent = ids.filter((id) => id > since);
    if (recent.length === 0) return;
    const records = recent.map((postId) => ({ userId: RETRACTED, authorId: this.#userId, postId }));
    const body = encodeLive({ importId: 0, committedAt: Date.now() }, records);
    const gateways = (await listGateways(db)).filter(
      ({ heartbeatAgeMs, online }) => online > 0 && heartbeatAgeMs < HEARTBEAT_TIMEOUT_SECONDS * 1_000,
    );
    await bus.publish(gateways.map(({ id }) => ({ queue: liveQueue(id), body })));
  }

  /** Announces the erasure until no gateway has a socket of the user: a notification may be lost. */
  async #closeSockets(): Promise<void> {
    const { db } = this.#context;
    const allClosed = async () => (await openPresence(db, this.#userId, HEARTBEAT_TIMEOUT_SECONDS)) === 0;
    const pace = { everyMs: POLL_MS, timeoutMs: ANNOUNCE_INTERVAL_MS, signal: this.#signal };
    do await announceErased(db, this.#userId);
    while (!(await poll(allClosed, pace)));
  }

  async #removeFollowers(): Promise<void> {
    const { db, changes } = this.#context;
    await fillsEnded(db);
    for (;;) {
      const ids = await removeFollowersOf(db, this.#userId, (session, group) =>
        changes.changing(session, group),
      );
      if (ids.length === 0) return;
      await changes.forget(ids);
      await forgetFollowers(db, this.#userId, ids);
      this.#signal.throwIfAborted();
    }
  }
}

/** Finds what is left of a user in each table of the database, in messages and in the shared cache. */
export async function residueOf(
  { db, sharedCache }: Pick<EraseContext, 'db' | 'sharedCache'>,
  userId: number,
  texts: readonly string[] = [],
): Promise<Residue[]> {
  const cached = (await sharedCache?.residue?.(userId)) ?? 0;
  return [
    ...(await findResidue(db, userId, texts)),
    ...(await residueInMessages(db, userId)),
    ...(cached > 0 ? [{ where: 'cache', count: cached }] : []),
  ];
}
