/**
 * How an author's posts reach feeds. `push`: a row in every follower's feed. `pull`: merged when a feed is
 * read. `both`: on the way from one to the other; rows may exist, and reads merge and deduplicate.
 */
export type PushState = 'push' | 'both' | 'pull';

/** An author with more followers than this is not fanned out by default. */
export const DEFAULT_CELEBRITY_THRESHOLD = 500;
