import type { ErrorCode } from '../model/errors.ts';
import type { FeedEntry } from '../model/feed.ts';
import type { Post, StoredPost } from '../model/post.ts';
import type { FeedChanges } from './changes.ts';

/** The newest part of one feed, as it is cached. */
export interface CachedFeed {
  /** Newest first, no post twice. */
  readonly entries: readonly FeedEntry[];
  /**
   * The feed is complete above this post id: the feed's floor, or the oldest entry of a full ring.
   */
  readonly completeAbove: number;
  /** The feed's floor at the time of the read. */
  readonly floor: number;
}

/** A feed as read from the store, with the lists that decide which posts belong to it. Ids rise. */
export interface LoadedFeed extends CachedFeed {
  readonly followees: readonly number[];
  /** The followees whose posts are merged when the feed is read. */
  readonly celebrities: readonly number[];
  /** The reader's own posts. */
  readonly own: AuthorPosts;
}

/**
 * The FeedCache port. A cache may forget anything at any time. It returns only what the table
 * contained at some moment in the last few milliseconds.
 */
export interface FeedCache extends FeedChanges {
  get(userId: number): Promise<CachedFeed | undefined>;
  /**
   * Reads a feed through `load` and keeps the result, unless the feed was forgotten meanwhile: a
   * refill never overwrites anything newer. Callers for the same user share one load.
   */
  refill(userId: number, load: () => Promise<LoadedFeed>): Promise<CachedFeed>;
  /** Whole pages. Present where every change reaches the cache before it is acknowledged. */
  readonly pages?: PageCache;
  /** Yields user and feed for the given users, or for all that this process knows. */
  entries(userIds?: readonly number[]): AsyncIterable<[number, CachedFeed]>;
  /**
   * Yields cached posts with their texts, some hundreds at a time: the given ones, or all. The same
   * post may be yielded twice. Present only in a shared cache.
   */
  texts?(posts?: readonly FeedEntry[]): AsyncIterable<Post[]>;
  /**
   * Replaces one cached text by what `load` returns, as `edited` does, even by an older version.
   */
  fixText?(post: FeedEntry, load: () => Promise<Post | undefined>): Promise<void>;
  /**
   * Returns users whose feeds this process keeps or has read lately: the most recent ones for one half,
   * any of the others for the other half.
   */
  sample(count: number): number[];
  /**
   * Drops a cached feed that differs from the database, with everything that these posts are read from.
   * Another process that caches it keeps its own copy.
   */
  discard(userId: number, posts: readonly FeedEntry[]): Promise<void>;
  /** Counts keys of a user and keys whose values name them. Present only in a shared cache. */
  residue?(userId: number): Promise<number>;
  /** Compares a shared cache with the database. Without this call its first use does. */
  begin?(): Promise<void>;
  /** Returns whether the cluster uses this server as its cache. Present only in a shared cache. */
  isUsed?(): Promise<boolean>;
  stats(): CacheStats;
  health(): CacheHealth;
  close(): Promise<void>;
}

/** The newest posts of one author. Ids rise. */
export interface AuthorPosts {
  readonly authorId: number;
  readonly postIds: readonly number[];
  /** No post above this id is missing. */
  readonly completeAbove: number;
}

export interface PageEntry extends FeedEntry {
  readonly source: 'pushed' | 'pulled' | 'own';
}

/** Candidates for a page: pushed entries, posts of celebrities, the reader's own posts. */
export interface PageEntries {
  /** Newest first, no post twice; deleted posts may be among them. */
  readonly entries: readonly PageEntry[];
  /** No post above this id is missing. */
  readonly completeAbove: number;
  /** More entries are cached than were asked for. */
  readonly more: boolean;
  /**
   * Digest of everything that a page of these is made of, texts included. undefined after a load.
   */
  readonly digest: string | undefined;
}

/** A page as it was read. */
export interface DigestedPage {
  readonly digest: string;
  readonly rows: readonly (PageEntry & { readonly body: string; readonly createdAt: Date })[];
}

export interface PageQuery {
  readonly userId: number;
  /** The page has posts below this id only. */
  readonly before: number;
  /** Maximum number of entries of each kind. */
  readonly count: number;
  /** Counts as no read: the same reader asks again for the same page, or no reader asks. */
  readonly isRetry?: boolean;
  /** Digest of the page that the caller already has. */
  readonly digest?: string | undefined;
  /**
   * The database is down. A page is returned although it may lack a change that could not be
   * reported to the cache.
   */
  readonly staleOk?: boolean | undefined;
}

export interface PageCache {
  /** Called when the cache has lost everything, with the most frequent readers. */
  onCold: (readers: readonly number[]) => void;
  /** The users whose pages this process reads most, with approximate counts, in falling order. */
  hotReaders(count: number): readonly { userId: number; reads: number }[];
  /**
   * Returns candidates for a page. `load` reads posts of authors that are not cached. Returns
   * `missing` where the feed is not cached, `unavailable` where the cache cannot be used, and
   * `same` where the page has the digest of the query.
   */
  page(
    query: PageQuery,
    load: (authorIds: readonly number[]) => Promise<AuthorPosts[]>,
  ): Promise<PageEntries | 'missing' | 'unavailable' | 'same'>;
  /** Pages that this process has read, by a name that the reader chooses. */
  readonly recentPages: {
    get(name: string): DigestedPage | undefined;
    set(name: string, page: DigestedPage): unknown;
    clear(): void;
  };
  /**
   * Returns the posts that are not deleted, by id. `load` reads posts that are not cached. Returns
   * undefined where the cache cannot be used.
   */
  posts(
    entries: readonly FeedEntry[],
    load: (missing: readonly FeedEntry[]) => Promise<StoredPost[]>,
  ): Promise<Map<number, Post> | undefined>;
}

export interface CacheHealth {
  /** Name of the server's program, and its version; empty for a cache in this process. */
  readonly server?: string;
  readonly version: string;
  /** False while feeds are read from the database. */
  readonly ready: boolean;
  readonly detail: string;
  /** Code of the failure of a cache that is not ready. */
  readonly code?: ErrorCode | undefined;
  /** How to make a cache ready that is not. */
  readonly fix?: string | undefined;
  /** A setting that will cause a fault, and its fix. */
  readonly warning?: { readonly text: string; readonly fix: string };
}

/** Counts since the start of this process. */
export interface CacheStats {
  /** Reads of feeds that were cached, and of feeds that were not. */
  readonly hits: number;
  readonly misses: number;
  /** Feeds loaded from the store, and those of them that the cache did not keep. */
  readonly refills: number;
  readonly refused: number;
  /** Reads of texts that were cached, and of texts that were not. */
  readonly postHits: number;
  readonly postMisses: number;
  /** Round trips to the database that confirm the epoch of the cache. */
  readonly checks: number;
  /** Changes that could not be reported to the cache. */
  readonly failures: number;
}
