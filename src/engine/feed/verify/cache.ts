import { setTimeout as sleep } from 'node:timers/promises';
import type { CachedFeed, FeedCache } from '../../cache/cache.ts';
import type { Store } from '../../database/sharding.ts';
import { FEED_LIMIT, type FeedEntry } from '../../model/feed.ts';
import { loadFeed } from '../../store/feeds.ts';
import { storedPosts } from '../../store/posts.ts';
import type { FeedFaults } from './variant.ts';

/**
 * Rows are committed a moment before caches hear of them. Only a difference at the last check is a
 * fault.
 */
const CHECKS = 4;
const RECHECK_MS = 250;

export interface CacheFaults extends FeedFaults {
  /** Posts that the cached feed holds twice. */
  readonly duplicates: number;
}

/**
 * Compares cached feeds with the table. A cache in memory is checked for duplicates only, because
 * it joins the follows when it is read.
 */
export async function compareCache(
  db: Store,
  cache: FeedCache,
  userIds: readonly number[] | undefined,
): Promise<CacheFaults[]> {
  let faults = await checkFeeds(db, cache, userIds);
  for (let checks = 1; checks < CHECKS && faults.length > 0 && cache.pages; checks += 1) {
    await sleep(RECHECK_MS);
    faults = await checkFeeds(
      db,
      cache,
      faults.map((fault) => fault.userId),
    );
  }
  return faults;
}

/** Returns posts whose cached text is stale: the post is deleted or has another text. */
export async function staleTexts(
  db: Store,
  cache: FeedCache,
  posts: readonly FeedEntry[] | undefined,
): Promise<FeedEntry[]> {
  let stale = await checkTexts(db, cache, posts);
  for (let checks = 1; checks < CHECKS && stale.length > 0; checks += 1) {
    await sleep(RECHECK_MS);
    stale = await checkTexts(db, cache, stale);
  }
  return stale;
}

/** Compares cached texts once. */
export async function checkTexts(
  db: Store,
  cache: FeedCache,
  posts: readonly FeedEntry[] | undefined,
): Promise<FeedEntry[]> {
  const stale = new Map<number, FeedEntry>();
  for await (const cached of cache.texts?.(posts) ?? []) {
    const entries = cached.map(({ id, authorId }) => ({ postId: id, authorId }));
    const stored = new Map((await storedPosts(db, entries)).map((post) => [post.id, post]));
    for (const { id, authorId, body, version } of cached) {
      const now = stored.get(id);
      if (!now || now.deleted || now.version !== version || now.body !== body)
        stale.set(id, { postId: id, authorId });
    }
  }
  return [...stale.values()];
}

/** Names the posts that a cached feed lacks, and those of authors who are not followed. */
export async function differingCached(db: Store, userId: number, cached: CachedFeed): Promise<FeedEntry[]> {
  const { missing, strangers } = await differences(db, userId, cached);
  return [...missing, ...strangers];
}

async function checkFeeds(
  db: Store,
  cache: FeedCache,
  userIds: readonly number[] | undefined,
): Promise<CacheFaults[]> {
  const faults: CacheFaults[] = [];
  for await (const [userId, cached] of cache.entries(userIds)) {
    const distinct = new Set(cached.entries.map((entry) => entry.postId));
    const duplicates = cached.entries.length - distinct.size;
    const found = cache.pages ? await differences(db, userId, cached) : { missing: [], strangers: [] };
    const [missing, strangers] = [found.missing.length, found.strangers.length];
    if (duplicates + missing + strangers > 0)
      faults.push({ userId, missing, strangers, orphans: 0, duplicates });
  }
  return faults;
}

/** Deleted posts may stay in a cached feed: they have no text. */
async function differences(
  db: Store,
  userId: number,
  cached: CachedFeed,
): Promise<{ missing: FeedEntry[]; strangers: FeedEntry[] }> {
  const table = await loadFeed(db, userId, { entries: FEED_LIMIT, own: 0 });
  const known = new Set(cached.entries.map((entry) => entry.postId));
  const followees = new Set(table.followees);
  return {
    missing: table.entries.filter(({ postId }) => postId > cached.completeAbove && !known.has(postId)),
    strangers: cached.entries.filter(({ authorId }) => !followees.has(authorId)),
  };
}
