import type { Database } from '../../database/database.ts';
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

/** Compares feeds with the truth. PostgreSQL and Citus need different statements. */
export interface VerifyVariant {
  /** Users per range. */
  readonly rangeSize: number;
  /** Returns pairs that only one of `follows` and `followers` has, for followers in the range. */
  asymmetricPairs(db: Database, after: number, last: number): Promise<Pair[]>;
  /** `asymmetric`: the result of `asymmetricPairs` for this range. */
  compareFeeds(db: Database, after: number, last: number, asymmetric: readonly Pair[]): Promise<FeedFaults[]>;
}
