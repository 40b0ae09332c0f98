import type { FeedCache } from '../../cache/cache.ts';
import type { FeedChanges } from '../../cache/changes.ts';
import { notifiedChanges } from '../../cache/invalidation.ts';
import type { Database } from '../../database/database.ts';
import { FeedctlError } from '../../model/errors.ts';
import type { FeedEntry } from '../../model/feed.ts';
import type { Pair } from '../../store/follows.ts';
import { findPost } from '../../store/posts.ts';
import { getUser, randomUserIds, userIdsAfter } from '../../store/users.ts';
import { runConcurrently } from '../../util/parallel.ts';
import { rebuild } from '../rebuild/rebuild.ts';
import { syncFollower } from '../syncFollower.ts';
import { type CacheFaults, compareCache, staleTexts } from './cache.ts';
import { type UserRange, userRanges } from './ranges.ts';
import type { FeedFaults } from './variant.ts';
import { verifyVariant } from './variants.ts';

/** The server does the work of a comparison: one range for each core of a small machine. */
const CONCURRENCY = 2;
/** Maximum number of users in a result. */
const MAX_USERS = 20;

export interface VerifyResult {
  readonly checked: number;
  /** Feeds with any fault. */
  readonly mismatched: number;
  /** Users of the first 20 of these feeds. */
  readonly users: readonly number[];
  readonly missing: number;
  readonly strangers: number;
  readonly orphans: number;
  /** Posts that a cached feed holds twice. */
  readonly duplicates: number;
  /** Texts in a shared cache that differ from the post's text, or whose post is deleted. */
  readonly stale: number;
  /** Follows without their mirror in `followers`, or the other way round. */
  readonly asymmetric: number;
  /** Feeds, texts and pairs that were repaired. */
  readonly repaired: number;
}

export interface VerifyOptions {
  readonly repair?: boolean;
  readonly cache?: FeedCache;
  readonly changes?: FeedChanges;
  readonly signal?: AbortSignal;
  readonly onProgress?: (checked: number, total: number, mismatched: number) => void;
}

/** Differences found so far. */
interface Faults {
  checked: number;
  readonly feeds: FeedFaults[];
  readonly cached: CacheFaults[];
  readonly asymmetric: Pair[];
}

/**
 * Compares materialized feeds with the current follows and posts, above each feed's floor. `users`
 * undefined: every feed. `repair` rebuilds feeds that differ. Throws USER_NOT_FOUND or INTERRUPTED.
 */
export async function verify(
  db: Database,
  users: number | readonly number[] | undefined,
  options: VerifyOptions = {},
): Promise<VerifyResult> {
  const { cache } = options;
  if (typeof users === 'number') await getUser(db, users);
  const userIds = typeof users === 'number' ? [users] : users;
  const faults = await compareWithTables(db, userIds, options);
  if (cache && !cache.pages) faults.cached.push(...(await compareCache(db, cache, userIds)));
  const stale = cache?.texts ? await staleTexts(db, cache, await textsOf(cache, userIds)) : [];
  const mismatched = new Set([...faults.feeds, ...faults.cached].map((fault) => fault.userId));
  if (options.repair) await repairFaults(db, { mismatched, asymmetric: faults.asymmetric, stale }, options);
  const sum = (of: (fault: FeedFaults) => number) =>
    [...faults.feeds, ...faults.cached].reduce((total, fault) => total + of(fault), 0);
  return {
    checked: faults.checked,
    mismatched: mismatched.size,
    users: [...mismatched].sort((a, b) => a - b).slice(0, MAX_USERS),
    missing: sum((fault) => fault.missing),
    strangers: sum((fault) => fault.strangers),
    orphans: sum((fault) => fault.orphans),
    duplicates: faults.cached.reduce((total, fault) => total + fault.duplicates, 0),
    stale: stale.length,
    asymmetric: faults.asymmetric.length,
    repaired: options.repair ? faults.asymmetric.length + mismatched.size + stale.length : 0,
  };
}

/** Compares the feeds in the table, and those in a cache that answers by user, range by range. */
async function compareWithTables(
  db: Database,
  userIds: readonly number[] | undefined,
  { cache, signal, onProgress }: VerifyOptions,
): Promise<Faults> {
  const variant = verifyVariant(await db.sharding());
  const ranges: UserRange[] =
    userIds?.map((id) => ({ after: id - 1, last: id, users: 1 })) ??
    (await userRanges(db, variant.rangeSize));
  const total = ranges.reduce((sum, range) => sum + range.users, 0);
  const faults: Faults = { checked: 0, feeds: [], cached: [], asymmetric: [] };
  await runConcurrently(ranges, CONCURRENCY, async ({ after, last, users }) => {
    if (signal?.aborted)
      throw new FeedctlError('INTERRUPTED', `stopped after ${faults.checked} of ${total} feeds`);
    const pairs = await variant.asymmetricPairs(db, after, last);
    faults.feeds.push(...(await variant.compareFeeds(db, after, last, pairs)));
    faults.asymmetric.push(...pairs);
    if (cache?.pages)
      faults.cached.push(...(await compareCache(db, cache, await userIdsAfter(db, after, users))));
    faults.checked += users;
    onProgress?.(faults.checked, total, faults.feeds.length);
  });
  return faults;
}

async function repairFaults(
  db: Database,
  faults: {
    readonly mismatched: ReadonlySet<number>;
    readonly asymmetric: readonly Pair[];
    readonly stale: readonly FeedEntry[];
  },
  { cache, changes = cache ?? notifiedChanges }: VerifyOptions,
): Promise<void> {
  // Pairs first: a rebuild reads `follows`, but fan-out fills the feed from `followers` afterwards.
  for (const pair of faults.asymmetric) await syncFollower({ db, changes }, pair);
  for (const id of faults.mismatched) await rebuild(db, id, { changes });
  for (const post of faults.stale) await cache?.mendText?.(post, () => findPost(db, post));
}

/** Returns this many random users, or all if there are fewer, in rising order. */
export const sampleUsers = async (db: Database, count: number): Promise<number[]> =>
  (await randomUserIds(db, count)).sort((a, b) => a - b);

/** Returns the posts that cached feeds show. Returns undefined for all feeds. */
async function textsOf(
  cache: FeedCache,
  userIds: readonly number[] | undefined,
): Promise<FeedEntry[] | undefined> {
  if (userIds === undefined) return undefined;
  const posts: FeedEntry[] = [];
  for await (const [, { entries }] of cache.entries(userIds)) posts.push(...entries);
  return posts;
}
