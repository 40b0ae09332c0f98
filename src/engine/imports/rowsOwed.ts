import type { ImportTally } from './partitions.ts';

/**
 * Counts the feed rows that an import owes: one for each follower of the author of each post, except posts
 * that are merged when a feed is read. Before a post is stored this is an estimate, because the post may
 * exist already.
 */
export class RowsOwed {
  readonly #followers: ReadonlyMap<number, number>;
  #stored = 0;
  #left = 0;

  /** `skipped`: posts that an earlier run has stored. */
  constructor(followers: ReadonlyMap<number, number>, tally: ImportTally, skipped: number) {
    this.#followers = followers;
    for (const [author, posts] of tally.authors) this.#left += posts * this.#of(author);
    // The skipped posts are not read again, so their share is by their number.
    if (skipped > 0) this.#left *= 1 - skipped / tally.posts;
  }

  /** Takes a batch of posts, and the authors of those that are new. */
  stored(posts: readonly { readonly authorId: number }[], newAuthors: readonly number[]): void {
    for (const { authorId } of posts) this.#left -= this.#of(authorId);
    for (const author of newAuthors) this.#stored += this.#of(author);
  }

  /** Ends the estimate: every post is stored. */
  end(): void {
    this.#left = 0;
  }

  get rows(): number {
    return this.#stored + Math.max(0, Math.round(this.#left));
  }

  #of(author: number): number {
    return this.#followers.get(author) ?? 0;
  }
}
