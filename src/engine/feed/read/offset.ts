import { type FeedPage, type FeedQuery, MAX_PAGE } from './read.ts';

/**
 * Returns the page that begins `offset` posts below another one, for clients that count. `read`
 * reads one page. Skipped posts cost as much as others, so cursors are better.
 */
export async function pageAtOffset(
  read: (query: FeedQuery) => Promise<FeedPage>,
  query: FeedQuery,
  offset: number,
): Promise<Pick<FeedPage, 'items' | 'nextCursor'>> {
  let at: FeedQuery = query;
  for (let left = offset; ; left -= MAX_PAGE) {
    const page = await read({ ...at, limit: Math.min(MAX_PAGE, left + query.limit) });
    if (left + query.limit <= MAX_PAGE) return { items: page.items.slice(left), nextCursor: page.nextCursor };
    if (page.nextCursor === null) return { items: page.items.slice(left), nextCursor: null };
    at = { ...query, cursor: page.nextCursor };
  }
}
