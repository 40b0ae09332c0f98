import type { FeedCache } from '../../cache/cache.ts';
import type { FeedChanges } from '../../cache/changes.ts';
import { notifiedChanges } from '../../cache/invalidation.ts';
import type { Database } from '../../database/database.ts';
import { FeedctlError } from '../../model/errors.ts';
import type { FeedEntry } from '../../model/feed.ts';
import type { Pair } from '../../store/follows.ts';
import { findPost } from '../../store/posts.ts';
import { getUser, randomUserIds, userIdsAfter } from '../../store/users.ts';
import { rebuild } from '../rebuild/rebuild.ts';
import { syncFollower } from '../syncFollower.ts';
import { type CacheFaults, compareCache, staleTexts } from './cache.ts';
import { asymmetricPairs, compareFeeds, type FeedFaults, userRanges } from './postgres.ts';

const USERS_A_RANGE = 10_000;
/** Each range passes over all of `followers`, which is sorted by followee: fewer, as only sums come back. */
const USERS_A_SHARDED_RANGE = 200_000;
/** The comparison is the server's work: a range for each of a small machine's cores. */
const PARALLEL = 2;
/** Feeds that are named: enough to look into, and no list of a whole cluster. */
const NAMED = 20;

export interface VerifyResult {
  readonly checked: number;
  /** Feeds with any fault. */
  readonly mismatched: number;
  /** Whose they are: the first 20. */
  readonly users: readonly number[];
  readonly missing: number;
  readonly strangers: number;
  readonly orphans: number;
  /** Posts that a cached feed holds twice. */
  readonly duplicates: number;
  /** Texts in a shared cache of posts that are deleted, or have another text by now. */
  readonly stale: number;
  /** Follows without their mirror in `followers`, or the other way round. */
  readonly asymmetric: number;
  /** Feeds, texts and pairs that were mended. */
  readonly repaired: number;
}

/**
 * Compares materialized feeds with what the follows and posts of now say, above each feed's floor. `whose`
 * undefined: every feed. `repair` rebuilds those that differ. Throws USER_NOT_FOUND or INTERRUPTED.
 */
export async function verify(
  db: Database,
  whose: number | readonly number[] | undefined,
  options: {
    repair?: boolean;
    cache?: FeedCache;
    changes?: FeedChanges;
    signal?: AbortSignal;
    onProgress?: (checked: number, total: number, mismatched: number) => void;
  } = {},
): Promise<VerifyResult> {
  const { changes = options.cache ?? notifiedChanges } = options;
  if (typeof whose === 'number') await getUser(db, whose);
  const userIds = typeof whose === 'number' ? [whose] : whose;
  const { distributed } = await db.sharding();
  const ranges =
    userIds === undefined
      ? await userRanges(db, distributed ? USERS_A_SHARDED_RANGE : USERS_A_RANGE)
      : userIds.map((id) => ({ after: id - 1, last: id, users: 1 }));
  const total = ranges.reduce((sum, range) => sum + range.users, 0);
  const faults: FeedFaults[] = [];
  let checked = 0;
  const inCache: CacheFaults[] = [];
  const asymmetric: Pair[] = [];
  const queue = ranges.values();
  await Promise.all(
    Array.from({ length: PARALLEL }, async () => {
      for (const range of queue) {
        if (options.signal?.aborted)
          throw new FeedctlError('INTERRUPTED', `stopped after ${checked} of ${total} feeds`);
        const pairs = await asymmetricPairs(db, range.after, range.last);
        faults.push(...(await compareFeeds(db, range.after, range.last, pairs)));
        asymmetric.push(...pairs);
        if (options.cache?.pages) {
          const ids = await userIdsAfter(db, range.after, range.users);
          inCache.push(...(await compareCache(db, options.cache, ids)));
        }
        checked += range.users;
        options.onProgress?.(checked, total, faults.length);
      }
    }),
  );
  if (options.cache && !options.cache.pages)
    inCache.push(...(await compareCache(db, options.cache, userIds)));
  const stale = options.cache?.texts
    ? await staleTexts(db, options.cache, await textsOf(options.cache, userIds))
    : [];
  const mismatched = new Set([...faults, ...inCache].map((fault) => fault.userId));
  let repaired = 0;
  if (options.repair) {
    // Pairs first: a feed is rebuilt from the follows, but filled from then on by `followers`.
    for (const pair of asymmetric) await syncFollower({ db, changes }, pair);
    for (const id of mismatched) await rebuild(db, id, { changes });
    for (const post of stale) await options.cache?.fixText?.(post, () => findPost(db, post));
    repaired = asymmetric.length + mismatched.size + stale.length;
  }
  const sum = (of: (fault: FeedFaults) => number) =>
    [...faults, ...inCache].reduce((total, fault) => total + of(fault), 0);
  return {
    checked,
    mismatched: mismatched.size,
    users: [...mismatched].sort((a, b) => a - b).slice(0, NAMED),
    missing: sum((fault) => fault.missing),
    strangers: sum((fault) => fault.strangers),
    orphans: sum((fault) => fault.orphans),
    duplicates: inCache.reduce((total, fault) => total + fault.duplicates, 0),
    stale: stale.length,
    asymmetric: asymmetric.length,
    repaired,
  };
}

/** So many users at random, or all where there are no more, in rising order. */
export const sampleUsers = async (db: Database, count: number): Promise<number[]> =>
  (await randomUserIds(db, count)).sort((a, b) => a - b);

/** Those that feeds show; undefined: of all. */
async function textsOf(
  cache: FeedCache,
  userIds: readonly number[] | undefined,
): Promise<FeedEntry[] | undefined> {
  if (userIds === undefined) return undefined;
  const posts: FeedEntry[] = [];
  for await (const [, { entries }] of cache.entries(userIds)) posts.push(...entries);
  return posts;
}
