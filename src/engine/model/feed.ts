/** Rows a materialized feed is refilled to; what is older is merged from the posts themselves. */
export const FEED_LIMIT = 1_000;

/** A post in a feed, without its text. */
export interface FeedEntry {
  readonly postId: number;
  readonly authorId: number;
}

/** How an item came into a page: a row of the feed, merged from its author's posts, or written by the reader. */
export type FeedSource = 'pushed' | 'pulled' | 'own';
