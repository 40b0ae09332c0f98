/**
 * How an author's posts reach feeds. `push`: a row in every follower's feed. `pull`: merged when a feed is
 * read. `both`: on the way from one to the other; rows may exist, and reads merge and deduplicate.
 */
export type PushState = 'push' | 'both' | 'pull';

/** An author with more followers than this is not fanned out by default. */
export const DEFAULT_CELEBRITY_THRESHOLD = 500;

/** Followers have to fall by a fifth before an author is fanned out again: who is near the threshold stays as they are. */
const RELEASE_SHARE = 0.8;

/** Who an evaluation takes for a celebrity. */
export interface CelebrityRule {
  /** Authors with more followers become one. */
  readonly threshold: number;
  /** Those who have no more than this are none any more. */
  readonly releaseAt: number;
}

export const celebrityRule = (
  threshold: number,
  releaseAt: number = Math.floor(threshold * RELEASE_SHARE),
): CelebrityRule => ({ threshold, releaseAt });

/** What becomes of an author; undefined: they stay as they are. */
export function celebrityChange(
  author: { readonly state: PushState; readonly followers: number },
  { threshold, releaseAt }: CelebrityRule,
): 'mark' | 'unmark' | undefined {
  if (author.followers > threshold) return author.state === 'pull' ? undefined : 'mark';
  return author.state !== 'push' && author.followers <= releaseAt ? 'unmark' : undefined;
}
