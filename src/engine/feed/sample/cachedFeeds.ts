import { setTimeout as sleep } from 'node:timers/promises';
import type { FeedCache } from '../../cache/cache.ts';
import type { Store } from '../../database/sharding.ts';
import { isFeedctlError } from '../../model/errors.ts';
import type { FeedEntry } from '../../model/feed.ts';
import { MAX_ID } from '../../model/ids.ts';
import type { Mismatch } from '../../model/sample.ts';
import type { ProcessStats } from '../../stats/process.ts';
import type { PageRow } from '../../store/pages/index.ts';
import { findPost } from '../../store/posts.ts';
import { addHealed } from '../../store/samples.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { cachedFirstPage, pageFromTable } from '../read/read.ts';
import { checkTexts, differingCached } from '../verify/cache.ts';

/** Entries of a page that is compared: more than the 20 of a default page. */
const PAGE = 50;
/** Checks of a confirming look: a change between the two reads of one check is no fault. */
const CHECKS = 3;
const RECHECK_MS = 250;

export interface CacheContext {
  readonly db: Store;
  readonly cache: FeedCache;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
  readonly stats?: ProcessStats | undefined;
}

/** A post of a cached feed that differs from the database. */
interface Difference extends FeedEntry {
  /** `entry`: of the feed alone. The others may be differences of a text. */
  readonly how: 'missing' | 'extra' | 'text' | 'entry';
}

/** Compares the cached feed of a user with the database. Returns undefined if it is not cached. */
type Compare = (context: CacheContext, userId: number) => Promise<readonly Difference[] | undefined>;

/**
 * Compares the first page of a feed as this process would serve it with the page of the tables, texts
 * included.
 */
export const compareServedPage: Compare = async ({ db, cache }, userId) => {
  const served = await cachedFirstPage(db, userId, PAGE, cache);
  return served && differingRows(served, await pageFromTable(db, userId, MAX_ID, PAGE));
};

/** Compares all entries of a feed in a shared cache with the table, and the texts of its newest posts. */
export const compareSharedFeed: Compare = async ({ db, cache }, userId) => {
  for await (const [, cached] of cache.entries([userId])) {
    const entries = await differingCached(db, userId, cached);
    const texts = await checkTexts(db, cache, cached.entries.slice(0, PAGE));
    return [
      ...entries.map((entry) => ({ ...entry, how: 'entry' as const })),
      ...texts.map((entry) => ({ ...entry, how: 'text' as const })),
    ];
  }
  return undefined;
};

/** Compares the part that both pages reach down to. */
function differingRows(served: readonly PageRow[], stored: readonly PageRow[]): Difference[] {
  const lowest = (rows: readonly PageRow[]) => (rows.length === PAGE ? rows.at(-1)!.postId : 0);
  const low = Math.max(lowest(served), lowest(stored));
  const servedById = new Map(served.map((row) => [row.postId, row]));
  const storedById = new Map(stored.map((row) => [row.postId, row]));
  const differences: Difference[] = [];
  const differ = ({ postId, authorId }: PageRow, how: Difference['how']) => {
    if (postId >= low) differences.push({ postId, authorId, how });
  };
  for (const row of stored) {
    const found = servedById.get(row.postId);
    if (!found) differ(row, 'missing');
    else if (found.body !== row.body) differ(row, 'text');
  }
  for (const row of served) if (!storedById.has(row.postId)) differ(row, 'extra');
  return differences;
}

const keyOf = ({ how, postId }: Difference): string => `${how} ${postId}`;

/**
 * Compares samples of cached feeds with the database. A difference that the next look finds too is
 * reported, and the cached feed is dropped: its next reader loads it again.
 */
export class CacheSampler {
  readonly #context: CacheContext;
  readonly #compare: Compare;
  /** Differences of the last look, by user. */
  #suspects = new Map<number, ReadonlySet<string>>();

  constructor(context: CacheContext, compare: Compare) {
    this.#context = context;
    this.#compare = compare;
  }

  /** Looks at these users, and again at those whose feeds differed at the last look. */
  async look(userIds: readonly number[]): Promise<void> {
    const { db, stats, metrics } = this.#context;
    const before = this.#suspects;
    this.#suspects = new Map();
    const found: Mismatch[] = [];
    for (const userId of new Set([...before.keys(), ...userIds])) {
      const differences = await this.#differences(userId);
      if (!differences) continue;
      if (stats) stats.sampled += 1;
      metrics?.count('feedctl_sampled_feeds_total', 1);
      const known = before.get(userId);
      const twice = known ? await this.#persisting(userId, differences, known) : [];
      if (twice.length > 0) found.push(await this.#heal(userId, twice));
      else if (differences.length > 0) this.#suspects.set(userId, new Set(differences.map(keyOf)));
    }
    await addHealed(db, found);
  }

  /** An erased user has no feed to compare. */
  #differences(userId: number): Promise<readonly Difference[] | undefined> {
    return this.#compare(this.#context, userId).catch((error) => {
      if (isFeedctlError(error, 'USER_NOT_FOUND')) return undefined;
      throw error;
    });
  }

  /** Returns the known differences that every check finds. */
  async #persisting(
    userId: number,
    first: readonly Difference[],
    known: ReadonlySet<string>,
  ): Promise<Difference[]> {
    let left = first.filter((one) => known.has(keyOf(one)));
    for (let checks = 1; checks < CHECKS && left.length > 0; checks += 1) {
      await sleep(RECHECK_MS, undefined, { ref: false });
      const again = new Set((await this.#differences(userId))?.map(keyOf));
      left = left.filter((one) => again.has(keyOf(one)));
    }
    return left;
  }

  async #heal(userId: number, differences: readonly Difference[]): Promise<Mismatch> {
    const { db, cache, log, metrics } = this.#context;
    const [{ postId, how }] = differences as [Difference];
    metrics?.count('feedctl_sampled_mismatches_total', 1, { kind: 'cache' });
    log.warn(
      { userId, postId, how, posts: differences.length, cache: cache.kind },
      'a cached feed differed from the database and was dropped',
    );
    await cache.discard(userId, differences);
    for (const post of differences)
      if (post.how !== 'entry') await cache.fixText?.(post, () => findPost(db, post));
    return { userId, kind: 'cache', postId, at: new Date().toISOString() };
  }
}
