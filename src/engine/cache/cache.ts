import type { FeedEntry } from '../model/feed.ts';
import type { Post, StoredPost } from '../model/post.ts';
import type { FeedChanges } from './changes.ts';

/** The newest part of one feed as a cache holds it. */
export interface CachedFeed {
  /** Newest first, no post twice. */
  readonly entries: readonly FeedEntry[];
  /** The feed is complete above this post id: the feed's floor, or the oldest entry where the ring is full. */
  readonly completeAbove: number;
  /** The feed's floor when this was read. */
  readonly floor: number;
}

/** A feed as it was read from the store, with what decides who may come into it. Ids rise. */
export interface LoadedFeed extends CachedFeed {
  readonly followees: readonly number[];
  /** Those of the followees whose posts are merged when the feed is read. */
  readonly celebrities: readonly number[];
  /** The reader's own. */
  readonly own: AuthorPosts;
}

/**
 * The FeedCache port. A cache may forget anything at any time; what it returns has to be what the table held at
 * some moment in the last few milliseconds.
 */
export interface FeedCache extends FeedChanges {
  get(userId: number): Promise<CachedFeed | undefined>;
  /**
   * Reads a feed through `load` and keeps the result, unless it was forgotten meanwhile: a refill never overwrites
   * what is newer. Several callers for one user share one load.
   */
  refill(userId: number, load: () => Promise<LoadedFeed>): Promise<CachedFeed>;
  /** Whole pages, from a cache that is told of every change before that is acknowledged. */
  readonly pages?: PageCache;
  /** What is held of some feeds, or of all that this process knows, for proving it: user and feed. */
  entries(userIds?: readonly number[]): AsyncIterable<[number, CachedFeed]>;
  /** Posts whose text is held, some hundreds at a time: of these or of all; one may come twice. Only where the cache is shared. */
  texts?(posts?: readonly FeedEntry[]): AsyncIterable<Post[]>;
  /** Has one of them read anew, whatever is held. `load` as for `edited`. */
  mendText?(post: FeedEntry, load: () => Promise<Post | undefined>): Promise<void>;
  /** Keys that hold a user, or something of theirs. Only where the cache is shared. */
  traces?(userId: number): Promise<number>;
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

/** All that a page may be made of: pushed entries, the posts of celebrities, one's own. */
export interface PageEntries {
  /** Newest first, no post twice; deleted ones may be among them. */
  readonly entries: readonly PageEntry[];
  /** No post above this id is missing. */
  readonly completeAbove: number;
  /** More than was asked for is held. */
  readonly more: boolean;
  /** Digest of all that a page out of these is made of, texts too. undefined where some of it had to be loaded. */
  readonly seal: string | undefined;
}

/** A page as it was read. */
export interface DigestedPage {
  readonly seal: string;
  readonly rows: readonly (PageEntry & { readonly body: string; readonly createdAt: Date })[];
}

export interface PageCache {
  /** Called when everything that was held is gone, with those who read most. */
  onCold: (readers: readonly number[]) => void;
  /** Who asked this process for pages most, and about how often: the most frequent first. */
  hotReaders(count: number): readonly { userId: number; reads: number }[];
  /**
   * What may be on a page: up to `count` entries of each kind. `load`: the posts of authors who are not held.
   * `missing` where the feed is not held, `away` where the cache cannot be used. `again`: the same reader looks once
   * more, which counts as nothing. `same` where all has the seal that is passed. `unconfirmed`: the database is away, so
   * a change that the cache could not be told of may be missing.
   */
  page(
    query: {
      userId: number;
      before: number;
      count: number;
      again?: boolean;
      seal?: string | undefined;
      unconfirmed?: boolean | undefined;
    },
    load: (authorIds: readonly number[]) => Promise<AuthorPosts[]>,
  ): Promise<PageEntries | 'missing' | 'away' | 'same'>;
  /** Pages that this process has read, by whatever the reader calls them. */
  readonly sealed: {
    get(name: string): DigestedPage | undefined;
    set(name: string, page: DigestedPage): unknown;
    clear(): void;
  };
  /** The posts that are not deleted, by id. `load`: those that are not held. undefined where the cache is away. */
  posts(
    entries: readonly FeedEntry[],
    load: (missing: readonly FeedEntry[]) => Promise<StoredPost[]>,
  ): Promise<Map<number, Post> | undefined>;
}

export interface CacheHealth {
  /** Of the server; empty where there is none. */
  readonly version: string;
  /** False while feeds come from the database. */
  readonly ready: boolean;
  readonly detail: string;
  /** What will go wrong, and how to mend it. */
  readonly warning?: { readonly text: string; readonly fix: string };
}

/** Counts since the start of this process. */
export interface CacheStats {
  /** Feeds that were held when asked for, and that were not. */
  readonly hits: number;
  readonly misses: number;
  /** Feeds read from the store for the cache, and those of them that were not kept. */
  readonly refills: number;
  readonly refused: number;
  /** Texts that were held when asked for, and that were not. */
  readonly postHits: number;
  readonly postMisses: number;
  /** Round trips to the database to know that what is held may be used. */
  readonly checks: number;
  /** Changes that the cache could not be told of. */
  readonly failures: number;
}
