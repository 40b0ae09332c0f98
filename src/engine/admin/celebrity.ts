import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus } from '../bus/bus.ts';
import type { FeedChanges } from '../cache/changes.ts';
import { fanOutSettled } from '../fanout/settled.ts';
import {
  backfillFollowers,
  followersAfter,
  lockPushStates,
  removeAuthorItems,
  setPushState,
} from '../store/celebrities.ts';
import type { Database, Session } from '../store/database.ts';
import { runOperation } from '../store/operations.ts';
import { inParallel } from '../store/parallel.ts';
import { repeatedTransaction } from '../store/steps.ts';
import { getUser } from '../store/users.ts';

const FOLLOWERS_A_TRANSACTION = 1_000;
const SHARDS_AT_A_TIME = 4;
/** By then every cache has heard of the rows that a backfill has added. */
const READERS_SEE_MS = 500;

export interface CelebrityResult {
  readonly userId: number;
  readonly followers: number;
  /** Feed rows removed (mark) or added (unmark). */
  readonly items: number;
  readonly changed: boolean;
}

interface Context {
  readonly db: Database;
  readonly bus: Bus;
  readonly changes: FeedChanges;
}

interface Options {
  readonly signal?: AbortSignal;
  readonly dryRun?: boolean;
  readonly onProgress?: (followers: number, total: number) => void;
  /** How long readers may go on with what they have read. */
  readonly readersSeeMs?: number;
}

/**
 * From push over both to pull: the author's posts are no longer fanned out but merged when a feed is read. At no
 * moment does a reader miss a post or see one twice: `both` merges before rows end, rows are removed when nothing
 * more can write any. Every step may be repeated, so a run that was cut off is finished by the next.
 * Throws USER_NOT_FOUND or OPERATION_RUNNING.
 */
export async function markCelebrity(
  context: Context,
  userId: number,
  options: Options = {},
): Promise<CelebrityResult> {
  const { db } = context;
  const author = await getUser(db, userId);
  if (options.dryRun)
    return { userId, followers: author.followerCount, items: 0, changed: author.pushState !== 'pull' };
  return runOperation(db, { kind: 'celebrity', key: String(userId) }, async () => {
    if (author.pushState === 'push') await setPushState(db, userId, 'both');
    if (author.pushState !== 'pull') await forgetFeedsOfFollowers(context, userId, options.signal);
    await setPushState(db, userId, 'pull');
    await fanOutSettled(context, options.signal);
    const { followers, items } = await overFollowers(context, author, options, removeAuthorItems);
    return { userId, followers, items, changed: author.pushState !== 'pull' };
  });
}

/** From pull over both to push: rows are filled in while posts are still merged, and only then merging ends. */
export async function unmarkCelebrity(
  context: Context,
  userId: number,
  options: Options = {},
): Promise<CelebrityResult> {
  const { db } = context;
  const author = await getUser(db, userId);
  const changed = author.pushState !== 'push';
  if (options.dryRun || !changed) return { userId, followers: author.followerCount, items: 0, changed };
  return runOperation(db, { kind: 'celebrity', key: String(userId) }, async () => {
    await setPushState(db, userId, 'both');
    // Posts planned while the author was pulled got no rows: once they have drained, the backfill finds them all.
    await fanOutSettled(context, options.signal);
    const { followers, items } = await overFollowers(
      context,
      author,
      options,
      async (session, authorId, ids) => {
        await lockPushStates(session);
        return backfillFollowers(session, authorId, ids);
      },
    );
    await sleep(options.readersSeeMs ?? READERS_SEE_MS);
    await setPushState(db, userId, 'push');
    return { userId, followers, items, changed };
  });
}

/** A shared cache keeps a feed with its celebrities: from then on none is without this one. */
async function forgetFeedsOfFollowers(
  { db, changes }: Context,
  authorId: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for await (const ids of followerChunks(db, authorId, signal)) await changes.forget(ids);
}

async function* followerChunks(
  db: Database,
  authorId: number,
  signal: AbortSignal | undefined,
  size = FOLLOWERS_A_TRANSACTION,
): AsyncGenerator<number[]> {
  for (let after = 0; ; ) {
    signal?.throwIfAborted();
    const ids = await followersAfter(db, authorId, after, size);
    if (ids.length === 0) return;
    yield ids;
    after = ids.at(-1)!;
  }
}

async function overFollowers(
  { db, changes }: Context,
  author: { id: number; followerCount: number },
  options: Options,
  change: (session: Session, authorId: number, userIds: readonly number[]) => Promise<number>,
): Promise<{ followers: number; items: number }> {
  let followers = 0;
  let items = 0;
  const topology = await db.topology();
  const shards = Math.max(1, topology.shards.length);
  for await (const ids of followerChunks(db, author.id, options.signal, FOLLOWERS_A_TRANSACTION * shards)) {
    const counts = await inParallel(
      topology.group(ids, (id) => id),
      SHARDS_AT_A_TIME,
      (group) =>
        repeatedTransaction(db, async (session) => {
          const rows = await change(session, author.id, group);
          await changes.changing(session, group);
          return rows;
        }),
    );
    for (const count of counts) items += count;
    await changes.forget(ids);
    followers += ids.length;
    options.onProgress?.(followers, author.followerCount);
  }
  return { followers, items };
}
