import type { FeedCache } from '../cache/cache.ts';
import type { FeedChanges } from '../cache/changes.ts';
import { notifiedChanges } from '../cache/invalidation.ts';
import { FeedctlError } from '../model/errors.ts';
import type { Database } from '../store/database.ts';
import type { Pair } from '../store/follows.ts';
import { getUser } from '../store/users.ts';
import { asymmetricPairs, compareFeeds, type FeedFaults, userRanges } from '../store/verify.ts';
import { alignPair } from './alignPair.ts';
import { rebuild } from './rebuild.ts';

const USERS_A_RANGE = 10_000;
/** Each range passes over all of `followers`, which is sorted by followee: fewer, as only sums come back. */
const USERS_A_SHARDED_RANGE = 200_000;
/** The comparison is the server's work: a range for each of a small machine's cores. */
const PARALLEL = 2;

export interface VerifyResult {
  readonly checked: number;
  /** Feeds with any fault. */
  readonly mismatched: number;
  readonly missing: number;
  readonly strangers: number;
  readonly orphans: number;
  /** Posts that a cached feed holds twice or that the table does not know. */
  readonly duplicates: number;
  /** Follows without their mirror in `followers`, or the other way round. */
  readonly asymmetric: number;
  /** Feeds and pairs that were mended. */
  readonly repaired: number;
}

/**
 * Compares materialized feeds with what the follows and posts of now say, above each feed's floor. `userId`
 * undefined: every feed. `repair` rebuilds those that differ. Throws USER_NOT_FOUND or INTERRUPTED.
 */
export async function verify(
  db: Database,
  userId: number | undefined,
  options: {
    repair?: boolean;
    cache?: FeedCache;
    changes?: FeedChanges;
    signal?: AbortSignal;
    onProgress?: (checked: number, total: number, mismatched: number) => void;
  } = {},
): Promise<VerifyResult> {
  const { changes = options.cache ?? notifiedChanges } = options;
  if (userId !== undefined) await getUser(db, userId);
  const { distributed } = await db.topology();
  const ranges =
    userId === undefined
      ? await userRanges(db, distributed ? USERS_A_SHARDED_RANGE : USERS_A_RANGE)
      : [{ after: userId - 1, last: userId, users: 1 }];
  const total = ranges.reduce((sum, range) => sum + range.users, 0);
  const faults: FeedFaults[] = [];
  let checked = 0;
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
        checked += range.users;
        options.onProgress?.(checked, total, faults.length);
      }
    }),
  );
  const repeats = options.cache ? await repeatsInCache(options.cache, userId) : new Map<number, number>();
  const mismatched = new Set([...faults.map((fault) => fault.userId), ...repeats.keys()]);
  let repaired = 0;
  if (options.repair) {
    // Pairs first: a feed is rebuilt from the follows, but filled from then on by `followers`.
    for (const pair of asymmetric) await alignPair({ db, changes }, pair);
    for (const id of mismatched) await rebuild(db, id, { changes });
    repaired = asymmetric.length + mismatched.size;
  }
  const sum = (of: (fault: FeedFaults) => number) => faults.reduce((total, fault) => total + of(fault), 0);
  return {
    checked,
    mismatched: mismatched.size,
    missing: sum((fault) => fault.missing),
    strangers: sum((fault) => fault.strangers),
    orphans: sum((fault) => fault.orphans),
    duplicates: [...repeats.values()].reduce((total, count) => total + count, 0),
    asymmetric: asymmetric.length,
    repaired,
  };
}

async function repeatsInCache(cache: FeedCache, userId: number | undefined): Promise<Map<number, number>> {
  const repeats = new Map<number, number>();
  for await (const [id, feed] of cache.entries(userId === undefined ? undefined : [userId])) {
    const distinct = new Set(feed.entries.map((entry) => entry.postId)).size;
    if (distinct < feed.entries.length) repeats.set(id, feed.entries.length - distinct);
  }
  return repeats;
}
