/**
 * Way of an author's posts to feeds. `push`: fan-out writes a row to every follower's feed. `pull`:
 * reads merge them. `both`, while an author changes: rows may exist, reads merge and deduplicate.
 */
export type PushState = 'push' | 'both' | 'pull';

/** Default maximum of followers of an author whose posts are fanned out. */
export const DEFAULT_CELEBRITY_THRESHOLD = 500;

/** Authors are unmarked at this share of the threshold, so that authors near it do not change often. */
const RELEASE_SHARE = 0.8;

/** Rule by which an evaluation marks and unmarks authors. */
export interface CelebrityRule {
  /** Authors with more followers become celebrities. */
  readonly threshold: number;
  /** Celebrities with this many followers or fewer are unmarked. */
  readonly releaseAt: number;
}

export const celebrityRule = (
  threshold: number,
  releaseAt: number = Math.floor(threshold * RELEASE_SHARE),
): CelebrityRule => ({ threshold, releaseAt });

/** Returns the change of an author. undefined: none. */
export function celebrityChange(
  author: { readonly state: PushState; readonly followers: number },
  { threshold, releaseAt }: CelebrityRule,
): 'mark' | 'unmark' | undefined {
  if (author.followers > threshold) return author.state === 'pull' ? undefined : 'mark';
  return author.state !== 'push' && author.followers <= releaseAt ? 'unmark' : undefined;
}
