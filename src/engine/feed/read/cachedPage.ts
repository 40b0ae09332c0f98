import type { AuthorPosts, PageCache, PageEntry } from '../../cache/cache.ts';
import type { Queryable } from '../../database/types.ts';
import { FEED_LIMIT } from '../../model/feed.ts';
import type { PageRow } from '../../store/pages/index.ts';
import { newestPosts, storedPosts } from '../../store/posts.ts';

/** Maximum number of an author's posts in the cache. */
export const RING = 200;
/** Entries beyond the page, because deleted posts among them drop out. */
const SPARE = 10;

/**
 * Reads a page from a cache that hears of every change. It needs no statement if the cache holds
 * everything. `refill` loads the feed into the cache. Returns undefined if the cache is unavailable
 * or does not reach far enough down. `unread`: no reader asks.
 */
export async function cachedPage(
  db: Queryable,
  pages: PageCache,
  query: { userId: number; before: number; limit: number; staleOk?: boolean; unread?: boolean },
  refill: () => Promise<unknown>,
): Promise<readonly PageRow[] | undefined> {
  const { userId, before, limit, staleOk, unread = false } = query;
  const name = `${userId}:${before}:${limit}`;
  const known = pages.recentPages.get(name);
  const load = (authorIds: readonly number[]) => loadRings(db, authorIds);
  let refilled = false;
  for (let count = limit + SPARE; ; count = FEED_LIMIT) {
    const digest = count === FEED_LIMIT ? undefined : known?.digest;
    let found = await pages.page(
      { userId, before, count, isRetry: unread || count === FEED_LIMIT, digest, staleOk },
      load,
    );
    if (found === 'same') return known?.rows;
    if (found === 'missing' && !refilled) {
      refilled = true;
      await refill();
      found = await pages.page({ userId, before, count, isRetry: true, staleOk }, load);
    }
    if (found === 'missing' || found === 'unavailable' || found === 'same') return undefined;
    const { completeAbove } = found;
    const complete = found.entries.filter((entry) => entry.postId > completeAbove);
    const page = await withTexts(db, pages, complete, limit);
    if (!page) return undefined;
    if (page.length === limit || completeAbove === 0) {
      if (found.digest && count < FEED_LIMIT)
        pages.recentPages.set(name, { digest: found.digest, rows: page });
      return page;
    }
    if (!found.more || count >= FEED_LIMIT) return undefined;
  }
}

/**
 * Returns the newest entries that are not deleted. Returns undefined if the cache is unavailable.
 */
async function withTexts(
  db: Queryable,
  pages: PageCache,
  entries: readonly PageEntry[],
  limit: number,
): Promise<PageRow[] | undefined> {
  const page: PageRow[] = [];
  for (let from = 0; page.length < limit && from < entries.length; ) {
    const part = entries.slice(from, from + limit - page.length);
    from += part.length;
    const posts = await pages.posts(part, (missing) => storedPosts(db, missing));
    if (!posts) return undefined;
    for (const entry of part) {
      const post = posts.get(entry.postId);
      if (post) page.push({ ...entry, body: post.body, createdAt: post.createdAt });
    }
  }
  return page;
}

async function loadRings(db: Queryable, authorIds: readonly number[]): Promise<AuthorPosts[]> {
  const rings = await newestPosts(db, authorIds, RING);
  return rings.map(({ authorId, postIds }) => authorPosts(authorId, postIds));
}

/** Returns the newest posts of an author, in rising order, at most RING of them. */
export const authorPosts = (authorId: number, postIds: readonly number[]): AuthorPosts => ({
  authorId,
  postIds,
  completeAbove: postIds.length === RING ? postIds[0]! - 1 : 0,
});
