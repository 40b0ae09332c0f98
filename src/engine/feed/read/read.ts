import type { CachedFeed, FeedCache, LoadedFeed } from '../../cache/cache.ts';
import type { Store } from '../../database/sharding.ts';
import { FeedctlError } from '../../model/errors.ts';
import { FEED_LIMIT, type FeedEntry } from '../../model/feed.ts';
import { MAX_ID, parseId } from '../../model/ids.ts';
import { isTransient } from '../../resilience/classify.ts';
import { loadFeed } from '../../store/feeds.ts';
import { feedPages, type PageQuery, type PageRow } from '../../store/pages/index.ts';
import { authorPosts, cachedPage, RING } from './cachedPage.ts';

export const MAX_PAGE = 1_000;

export interface FeedPage {
  readonly userId: number;
  /** Newest first. */
  readonly items: readonly PageRow[];
  /** Cursor of the next page. Null at the end of the feed. */
  readonly nextCursor: string | null;
}

export interface FeedQuery {
  /** 1 to 1,000. */
  readonly limit: number;
  /** The `nextCursor` of the previous page. */
  readonly cursor?: string;
}

/**
 * Reads a page of a home feed: materialized rows, posts of celebrities, the user's own posts, and
 * below the floor the posts of all followed authors. Without a cache it reads the table. Throws
 * USER_NOT_FOUND or INVALID_ID.
 */
export async function readFeed(
  db: Store,
  userId: number,
  query: FeedQuery,
  cache?: FeedCache,
): Promise<FeedPage> {
  const before = query.cursor === undefined ? MAX_ID : parseId(query.cursor, 'post');
  const { limit } = query;
  const items =
    (cache && (await pageFromCache(db, userId, before, limit, cache))) ??
    (await pageFromTable(db, userId, before, limit));
  return pageOf(userId, items, limit);
}

/**
 * Reads a page from the cache alone, while the database is down. Changes that did not reach the
 * cache are missing. Returns undefined if the cache does not hold the whole page, or is a cache
 * that needs the database.
 */
export async function readFeedUnconfirmed(
  db: Store,
  userId: number,
  query: FeedQuery,
  cache: FeedCache,
): Promise<FeedPage | undefined> {
  if (!cache.pages) return undefined;
  const before = query.cursor === undefined ? MAX_ID : parseId(query.cursor, 'post');
  const { limit } = query;
  const missing = async () => {
    throw new FeedctlError('DATABASE_UNREACHABLE', 'the feed is not in the cache');
  };
  const page = { userId, before, limit, staleOk: true };
  const items = await cachedPage(db, cache.pages, page, missing).catch((error) => {
    if (isTransient(error)) return undefined;
    throw error;
  });
  return items && pageOf(userId, items, limit);
}

/**
 * Reads the first page from the cache, as a reader gets it, without counting a read. Returns undefined
 * if it is not cached.
 */
export async function cachedFirstPage(
  db: Store,
  userId: number,
  limit: number,
  cache: FeedCache,
): Promise<readonly PageRow[] | undefined> {
  const query = { userId, before: MAX_ID, limit };
  if (cache.pages) return cachedPage(db, cache.pages, { ...query, unread: true }, async () => {});
  for await (const [, feed] of cache.entries([userId]))
    return pageOverCached(db, userId, query.before, limit, feed);
  return undefined;
}

const pageOf = (userId: number, items: FeedPage['items'], limit: number): FeedPage => ({
  userId,
  items,
  nextCursor: items.length === limit ? String(items.at(-1)!.postId) : null,
});

/** Returns undefined if the cache does not reach far enough down. */
async function pageFromCache(
  db: Store,
  userId: number,
  before: number,
  limit: number,
  cache: FeedCache,
): Promise<readonly PageRow[] | undefined> {
  const load = async (): Promise<LoadedFeed> => {
    const { own, ...feed } = await loadFeed(db, userId, { entries: FEED_LIMIT, own: RING });
    const full = feed.entries.length === FEED_LIMIT;
    const completeAbove = full ? feed.entries.at(-1)!.postId - 1 : feed.floor;
    return { ...feed, completeAbove, own: authorPosts(userId, own) };
  };
  if (cache.pages)
    return cachedPage(db, cache.pages, { userId, before, limit }, () => cache.refill(userId, load));
  const feed = (await cache.get(userId)) ?? (await cache.refill(userId, load));
  return pageOverCached(db, userId, before, limit, feed);
}

/** Throws USER_NOT_FOUND. */
export async function pageFromTable(
  db: Store,
  userId: number,
  before: number,
  limit: number,
): Promise<PageRow[]> {
  const above = await (await feedPages(db)).aboveFloor(db, { userId, before, limit });
  if (!above) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${userId}`);
  return withOlder(db, { userId, before, limit, floor: above.floor }, above.rows);
}

/**
 * Joins cached entries with the current follows and posts. For caches that do not hear of those.
 */
async function pageOverCached(
  db: Store,
  userId: number,
  before: number,
  limit: number,
  cached: CachedFeed,
): Promise<PageRow[] | undefined> {
  const start = firstBelow(cached.entries, before);
  // Reads more than the page, because unfollowed and deleted entries drop out.
  const slice = cached.entries.slice(start, start + limit + 50);
  const cut = start + slice.length < cached.entries.length;
  const completeAbove = cut ? slice.at(-1)!.postId - 1 : cached.completeAbove;
  const query = { userId, before, limit, floor: cached.floor };
  const page = await (await feedPages(db)).ofCached(db, query, slice);
  if (page.length === limit && page.at(-1)!.postId > completeAbove) return page;
  return !cut && cached.completeAbove === cached.floor ? withOlder(db, query, page) : undefined;
}

/**
 * Posts below the floor are older than all others, except those of celebrities and the user's own.
 */
async function withOlder(db: Store, query: PageQuery, above: PageRow[]): Promise<PageRow[]> {
  if (query.floor === 0 || (above.length === query.limit && above.at(-1)!.postId > query.floor)) return above;
  const older = await (await feedPages(db)).belowFloor(db, query);
  const byId = new Map(older.map((row) => [row.postId, row]));
  for (const row of above) byId.set(row.postId, row);
  return [...byId.values()].sort((a, b) => b.postId - a.postId).slice(0, query.limit);
}

function firstBelow(entries: readonly FeedEntry[], before: number): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle]!.postId < before) high = middle;
    else low = middle + 1;
  }
  return low;
}
