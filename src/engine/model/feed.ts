/** Rows of a rebuilt feed. Reads merge older posts from the posts table. */
export const FEED_LIMIT = 1_000;

/** A post in a feed, without its text. */
export interface FeedEntry {
  readonly postId: number;
  readonly authorId: number;
}

/** Source of an item in a page: feed row, merged post of a celebrity, or the reader's own post. */
export type FeedSource = 'pushed' | 'pulled' | 'own';
