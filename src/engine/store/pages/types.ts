import type { Store } from '../../database/sharding.ts';
import type { FeedEntry, FeedSource } from '../../model/feed.ts';

export interface PageRow extends FeedEntry {
  readonly source: FeedSource;
  readonly body: string;
  readonly createdAt: Date;
}

export interface PageQuery {
  readonly userId: number;
  /** Only posts with a smaller id. */
  readonly before: number;
  readonly limit: number;
  readonly floor: number;
}

/** A page, and the floor of its feed. */
export interface Page {
  readonly floor: number;
  readonly rows: PageRow[];
}

/** Reads pages of feeds. PostgreSQL and Citus need different statements. */
export interface FeedPages {
  /** Returns undefined for an unknown user. */
  aboveFloor(db: Store, query: Omit<PageQuery, 'floor'>): Promise<Page | undefined>;
  /**
   * Reads a page whose pushed entries are in a cache instead of the table. `cached` holds the
   * newest entries, down to the floor or to `before`.
   */
  ofCached(db: Store, query: PageQuery, cached: readonly FeedEntry[]): Promise<PageRow[]>;
  /** Reads posts at and below the floor from their authors. */
  belowFloor(db: Store, query: PageQuery): Promise<PageRow[]>;
}
