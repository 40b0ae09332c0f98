/**
 * How a sampled feed differs from follows and posts:
 *
 *     missing    a post of a followed author has no row in the feed
 *     strangers  a row is of an author who is not followed
 *     cache      a cached feed differs from the database
 */
export const MISMATCH_KINDS = ['missing', 'strangers', 'cache'] as const;
export type MismatchKind = (typeof MISMATCH_KINDS)[number];

/** A difference that was seen at two looks. */
export interface Mismatch {
  readonly userId: number;
  readonly kind: MismatchKind;
  /** One of the posts that differ, for `feed explain`. */
  readonly postId: number;
  /** Time of the look that confirmed it. */
  readonly at: string;
}

/** What the samples of the whole cluster have found. */
export interface Sampling {
  /** Time of the last look at rows of feeds; null before the first one. */
  readonly lastAt: string | null;
  /** Feeds whose rows were compared with follows and posts. */
  readonly checked: number;
  /** Cached feeds that the running gateways have compared with the database. */
  readonly checkedCached: number;
  /** Feeds that differ, while messages in flight or in a paused lane may be the reason. */
  readonly waiting: number;
  /** Feeds whose rows differ now, at most 50, the oldest first. */
  readonly differing: readonly Mismatch[];
  /** Cached feeds that differed in the last day and were dropped, at most 20, the newest first. */
  readonly healed: readonly Mismatch[];
  /** Feeds by kind: those that differ now, and for `cache` those that were dropped in the last day. */
  readonly mismatched: { readonly [kind in MismatchKind]: number };
  /** The newest of all. */
  readonly last: Mismatch | null;
}

/** Returns the sentence that names a mismatch, as `doctor` and `top` show it. */
export function mismatchText({ userId, kind, postId }: Mismatch): string {
  if (kind === 'missing') return `the feed of user ${userId} lacks post ${postId}`;
  if (kind === 'strangers')
    return `the feed of user ${userId} has a row of an author who is not followed, post ${postId}`;
  return `a cached feed of user ${userId} differed at post ${postId}, and was dropped`;
}
