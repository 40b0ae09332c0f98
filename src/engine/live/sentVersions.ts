import type { Post } from '../model/post.ts';

/**
 * The newest versions of edited posts that one gateway sent a moment ago. Two checks run at the same
 * time while a session catches up, and the one that read an older text may be written last. A check
 * is not written once it is older than `freshMs`, so versions are kept for that time.
 */
export class SentVersions {
  readonly #freshMs: number;
  /** Rising in `at`, by the monotonic clock. */
  readonly #sent = new Map<number, { readonly version: number; readonly at: number }>();

  constructor(freshMs: number) {
    this.#freshMs = freshMs;
  }

  /** Returns true if a newer text of the post has been sent: this one must be read again. */
  hasNewerThan(post: Post, now: number): boolean {
    const sent = this.#sent.get(post.id);
    // A database that went back may have lost the version that was sent longer ago.
    return sent !== undefined && sent.version > post.version && now - sent.at <= this.#freshMs;
  }

  /** Call it before the first frame with this text. Posts that were never edited cost nothing. */
  add(post: Post, now: number): void {
    if (post.version === 1) return;
    for (const [id, { at }] of this.#sent) {
      if (now - at <= this.#freshMs) break;
      this.#sent.delete(id);
    }
    this.#sent.delete(post.id);
    this.#sent.set(post.id, { version: post.version, at: now });
  }
}
