import { setTimeout as sleep } from 'node:timers/promises';
import { fanOutDrained } from '../bus/drained.ts';
import { markStale } from '../cache/changes.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { liveQueue } from '../live/notifier.ts';
import { announceErased } from '../live/presence.ts';
import { isFeedctlError } from '../model/errors.ts';
import { firstIdAt } from '../model/ids.ts';
import { encodeLive, RETRACTED } from '../model/messages.ts';
import { lastOperation, runOperation, saveProgress, type Work } from '../operations/run.ts';
import { deleteStatsOfUser } from '../stats/table.ts';
import { fillsEnded } from '../store/celebrities.ts';
import { listGateways } from '../store/processes.ts';
import { getUser } from '../store/users.ts';
import { runConcurrently } from '../util/parallel.ts';
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

/** In the order in which they are taken; each may be repeated. */
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

/** What there was when it began: the run that it goes on from has removed some of it. */
export interface EraseResult extends ErasePlan {
  /** What the scan at the end found; nothing where everything is gone. */
  readonly left: readonly Residue[];
}

interface Progress {
  readonly plan: ErasePlan;
  readonly steps: readonly EraseStep[];
}

const KIND = 'user erase';
/** Longer than this no gateway is silent, unless it is gone. */
const SILENT_SECONDS = 30;
const ASK_INTERVAL_MS = 1_000;
const TELL_LANES = 8;
/** Sockets are told to take back what they may show still. */
const WITHDRAW_MS = 24 * 3_600_000;
/** What is in a queue names the user until it is handled. */
const SCANS = 40;
const SCAN_RETRY_MS = 250;

/**
 * What would go. A user whose erasure was begun is one still, whatever is left of them. Throws USER_NOT_FOUND.
 */
export async function planErasure(db: EraseContext['db'], userId: number): Promise<ErasePlan> {
  try {
    await getUser(db, userId);
  } catch (error) {
    if (!isFeedctlError(error, 'USER_NOT_FOUND') || !(await lastOperation(db, KIND, String(userId))))
      throw error;
  }
  return { userId, ...(await countUserRows(db, userId)) };
}

/**
 * Erases a user from everything there is: tables, feeds, caches, sockets, queues and dead letters, then looks for what is
 * left. Texts are gone, and no feed shows a post, as soon as the first two steps are done; rows that are on their way
 * are waited for, so that nothing comes after. Cut off anywhere, it is gone on with by the next run.
 * Throws USER_NOT_FOUND, OPERATION_RUNNING and what the signal was aborted with.
 */
export async function eraseUser(
  context: EraseContext,
  userId: number,
  options: {
    signal?: AbortSignal;
    onStep?: (step: EraseStep | 'scan', done: number) => void;
    onResume?: Work['onResume'];
  } = {},
): Promise<EraseResult> {
  const { db, bus, changes } = context;
  const { onStep, onResume } = options;
  const plan = await planErasure(db, userId);
  const whole = { kind: KIND, key: String(userId), signal: options.signal, onResume };
  return runOperation<Progress, EraseResult>(db, whole, async (run) => {
    const { signal } = run;
    await run.blockCancel(`user ${userId} is erased in part: \`feedctl user erase ${userId}\` goes on`);
    let progress: Progress = run.progress ?? { plan, steps: [] };
    const note = async (news: Partial<Progress>) => {
      progress = { ...progress, ...news };
      const counts = { done: progress.steps.length, total: ERASE_STEPS.length, unit: 'steps' };
      await saveProgress(db, run.id, progress, counts);
    };
    const step = async (name: EraseStep, work: () => Promise<void>) => {
      if (progress.steps.includes(name)) return;
      signal.throwIfAborted();
      onStep?.(name, ERASE_STEPS.indexOf(name));
      await work();
      await note({ steps: [...progress.steps, name] });
    };
    await note({});
    const invalidate = (ids: readonly number[]) => markStale(context, ids);

    await step('user', async () => {
      await removeUser(db, userId);
      // A feed that is held would be read on, its owner there or not.
      await invalidate([userId]);
    });
    await step('posts', () => erasePosts(context, userId, signal));
    await step('sockets', () => closeSockets(context, userId, signal));
    // Posts that were on their way have been written by then, and follows of before have been handled.
    await step('drained', () => fanOutDrained({ db, bus }, signal));
    await step('followers', async () => {
      await fillsEnded(db);
      for (;;) {
        const ids = await removeFollowersOf(db, userId, (session, group) => changes.changing(session, group));
        if (ids.length === 0) return;
        await changes.forget(ids);
        await forgetFollowers(db, userId, ids);
        signal.throwIfAborted();
      }
    });
    await step('follows', async () => {
      for (;;) {
        if ((await removeFollowsOf(db, userId)) === 0) return;
        signal.throwIfAborted();
      }
    });
    await step('own rows', async () => {
      await removeOwnRows(db, userId);
      await forgetOperations(db, userId, KIND);
      await invalidate([userId]);
    });
    await step('messages', async () => {
      await eraseFromDeadLetters(db, bus, userId);
    });
    await step('strays', async () => {
      await removeStrays(db, userId, invalidate);
    });
    await step('cache', async () => {
      await changes.erased(userId);
      // Who was busy with them when they were announced may have noted that since.
      await announceErased(db, userId);
      await deleteStatsOfUser(db, userId);
    });
    onStep?.('scan', ERASE_STEPS.length);
    const left = await scan(context, userId, signal);
    return { ...progress.plan, left };
  });
}

/** Blanked, told to the caches, then removed: whoever is cut off in between leaves the ids of what has to be told. */
async function erasePosts(context: EraseContext, userId: number, signal: AbortSignal): Promise<void> {
  const { db, changes } = context;
  for (let ids = await blankPosts(db, userId); ids.length > 0; ids = await blankPosts(db, userId)) {
    await runConcurrently(ids, TELL_LANES, (postId) => changes.deleted({ postId, authorId: userId }));
    await withdraw(context, userId, ids);
    await removePosts(db, userId, ids);
    signal.throwIfAborted();
  }
}

/** Whoever is online takes back the posts of the last day; the gateways ask nobody which ones they were. */
async function withdraw({ db, bus }: EraseContext, authorId: number, ids: readonly number[]): Promise<void> {
  const since = firstIdAt(Date.now() - WITHDRAW_MS);
  const recent = ids.filter((id) => id > since);
  if (recent.length === 0) return;
  const records = recent.map((postId) => ({ userId: RETRACTED, authorId, postId }));
  const body = encodeLive({ importId: 0, committedAt: Date.now() }, records);
  const gateways = (await listGateways(db)).filter(
    ({ heartbeatAgeMs, online }) => online > 0 && heartbeatAgeMs < SILENT_SECONDS * 1_000,
  );
  await bus.publish(gateways.map(({ id }) => ({ queue: liveQueue(id), body })));
}

/** Asked again until no gateway holds one: a notification may be lost. */
async function closeSockets({ db }: EraseContext, userId: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    await announceErased(db, userId);
    for (let waited = 0; waited < ASK_INTERVAL_MS; waited += ASK_INTERVAL_MS / 20) {
      if ((await openPresence(db, userId, SILENT_SECONDS)) === 0) return;
      await sleep(ASK_INTERVAL_MS / 20, undefined, { signal });
    }
  }
}

/** Everything that is left. What comes while it looks, a cleanup that was under way, is removed, and looked for again. */
async function scan(context: EraseContext, userId: number, signal: AbortSignal): Promise<Residue[]> {
  const { db, changes } = context;
  for (let scans = 1; ; scans += 1) {
    const left = await residueOf(context, userId);
    if (left.length === 0 || scans === SCANS) return left;
    signal.throwIfAborted();
    await sleep(SCAN_RETRY_MS, undefined, { signal });
    if (left.every(({ where }) => where.startsWith('bus.'))) continue;
    // One that was being made when its author went.
    await erasePosts(context, userId, signal);
    await removeOwnRows(db, userId);
    await removeStrays(db, userId, (ids) => markStale(context, ids));
    await changes.erased(userId);
  }
}

/** Where anything of a user is: each table of the database, messages, the shared cache. */
export async function residueOf(
  { db, sharedCache }: Pick<EraseContext, 'db' | 'sharedCache'>,
  userId: number,
  texts: readonly string[] = [],
): Promise<Residue[]> {
  const held = (await sharedCache?.traces?.(userId)) ?? 0;
  return [
    ...(await findResidue(db, userId, texts)),
    ...(await residueInMessages(db, userId)),
    ...(held > 0 ? [{ where: 'cache', count: held }] : []),
  ];
}
