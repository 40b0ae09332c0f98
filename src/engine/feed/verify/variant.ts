import type { Database } from '../../database/database.ts';
import type { FeedEntry } from '../../model/feed.ts';
import type { Pair } from '../../store/follows.ts';

export interface FeedFaults {
  readonly userId: number;
  /** Posts that should be above the floor and are not. */
  readonly missing: number;
  /** Rows of authors that the user does not follow. */
  readonly strangers: number;
  /** Rows of deleted or unknown posts, or of celebrities. Readers do not see them. */
  readonly orphans: number;
}

/** A post that should be above the floor and is not, or a row of an author who is not followed. */
export interface DifferingEntry extends FeedEntry {
  readonly userId: number;
  readonly kind: 'missing' | 'strangers';
}

/** Maximum differing entries of one feed and kind that are named. */
export const MAX_NAMED = 100;

/** Compares feeds with the truth. PostgreSQL and Citus need different statements. */
export interface VerifyVariant {
  /** Users per range. */
  readonly rangeSize: number;
  /** Returns pairs that only one of `follows` and `followers` has, for followers in the range. */
  asymmetricPairs(db: Database, after: number, last: number): Promise<Pair[]>;
  /** `asymmetric`: the result of `asymmetricPairs` for this range. */
  compareFeeds(db: Database, after: number, last: number, asymmetric: readonly Pair[]): Promise<FeedFaults[]>;
  /**
   * Names the newest differing entries of some feeds, among posts up to `upTo`. For few feeds: its
   * cost grows with their number, not with the size of the tables.
   */
  differingEntries(db: Database, userIds: readonly number[], upTo: number): Promise<DifferingEntry[]>;
}
