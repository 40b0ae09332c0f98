import { randomBytes, randomUUID } from 'node:crypto';
import type { BulkheadPolicy } from 'cockatiel';
import { LRUCache } from 'lru-cache';
import type { FeedEntry } from '../../model/feed.ts';
import { MAX_ID } from '../../model/ids.ts';
import { packIds, readIds } from '../../model/messages.ts';
import type { Post, StoredPost } from '../../model/post.ts';
import { batchCalls } from '../../util/batch.ts';
import { HeavyHitters } from '../../util/heavyHitters.ts';
import type { AuthorPosts, DigestedPage, PageCache, PageEntries, PageEntry, PageQuery } from '../cache.ts';
import { isCacheError } from './connection.ts';
import { packRing, packStored, unpackPost, unpackSlice } from './format.ts';
import { editKey, keyOf, SECONDS_TO_LIVE } from './keys.ts';
import { takeLeases } from './refill.ts';
import { ignoreCacheError, type RedisState, type State } from './state.ts';

/**
 * Readers that are counted. After a flush the feeds of the most frequent of them are loaded first.
 */
const HOT_READERS = 1_000;
const WARMED = 500;
/** Readers of one script call: more would keep Redis busy for over a millisecond. */
const PAGES_A_CALL = 64;
/** Memory for pages that this process has read. */
const RECENT_PAGES_BYTES = 64 * 1024 ** 2;
const ROW_BYTES = 200;

interface PageCounts {
  hits: number;
  misses: number;
  postHits: number;
  postMisses: number;
}

type LoadRings = (authorIds: readonly number[]) => Promise<AuthorPosts[]>;

/** A reply of `page.lua` for one user. */
type Reply = (Buffer | null)[] | number;

type Slice = ReturnType<typeof unpackSlice>;

/**
 * The cached parts of a page. The first owner is the reader; a ring that is not cached is
 * undefined.
 */
interface CachedParts {
  readonly now: State;
  readonly feed: Slice;
  readonly owners: readonly number[];
  readonly rings: readonly (Slice | undefined)[];
  readonly digest: string | undefined;
}

/**
 * Pages out of Redis alone. A page takes two round trips: one for its entries and one for the
 * texts. Missing parts are loaded by the reader that misses them. A reader never shares a load that
 * began before its read: such a load may lack a change that was acknowledged meanwhile.
 */
export class RedisPages implements PageCache {
  readonly #state: RedisState;
  readonly #counts: PageCounts;
  /** Bounds the loads of this process. */
  readonly #loads: BulkheadPolicy;
  readonly #hot = new HeavyHitters(HOT_READERS);
  readonly #ask = batchCalls(PAGES_A_CALL, (queries: readonly PageQuery[]) => this.#askScript(queries));
  readonly recentPages = new LRUCache<string, DigestedPage>({
    maxSize: RECENT_PAGES_BYTES,
    sizeCalculation: bytesOf,
  });
  onCold: (readers: readonly number[]) => void = () => {};

  constructor(state: RedisState, counts: PageCounts, loads: BulkheadPolicy) {
    this.#state = state;
    this.#counts = counts;
    this.#loads = loads;
    state.onCold = () => this.onCold(this.#hot.top(WARMED).map(({ key }) => key));
  }

  hotReaders(count: number): readonly { userId: number; reads: number }[] {
    return this.#hot.top(count).map(({ key, count: reads }) => ({ userId: key, reads }));
  }

  async page(query: PageQuery, load: LoadRings): Promise<PageEntries | 'missing' | 'unavailable' | 'same'> {
    if (!query.isRetry) this.#hot.add(query.userId);
    if (!query.staleOk && !(await this.#state.epoch.trusted())) return 'unavailable';
    try {
      let found = await this.#cachedParts(query);
      if (found !== 'same' && found?.rings.includes(undefined))
        found = await this.#complete(found, query, load);
      if (!query.isRetry) this.#counts[found ? 'hits' : 'misses'] += 1;
      if (found === 'same') return found;
      return found ? merge(found, query.count) : 'missing';
    } catch (error) {
      if (isCacheError(error)) return 'unavailable';
      throw error;
    }
  }

  async posts(
    entries: readonly FeedEntry[],
    load: (missing: readonly FeedEntry[]) => Promise<StoredPost[]>,
  ): Promise<Map<number, Post> | undefined> {
    const found = new Map<number, Post>();
    const first = await this.#cachedPosts(entries, found).catch(ignoreCacheError);
    if (!first) return undefined;
    this.#counts.postHits += entries.length - first.missing.length;
    this.#counts.postMisses += first.missing.length;
    if (first.missing.length === 0) return found;
    const waits = this.#loads.executionSlots === 0;
    await this.#loads.execute(async () => {
      const afterWait = waits && (await this.#cachedPosts(first.missing, found).catch(() => undefined));
      const { now, missing } = afterWait || first;
      if (missing.length === 0) return;
      const stored = await load(missing);
      for (const post of stored) if (!post.deleted) found.set(post.id, post);
      const kept = stored.flatMap((post) => [keyOf(now, 'p', post.id), packStored(post)]);
      if (kept.length > 0) await this.#state.script(now, 'posts', SECONDS_TO_LIVE, ...kept).catch(() => {});
    });
    return found;
  }

  /** Asks for pages of several readers that have the same bound and count. */
  #askScript(queries: readonly PageQuery[]): Promise<{ now: State; reply: Reply }[]> {
    return this.#state.run(async (now) => {
      const { before, count } = queries[0]!;
      const replies = (await this.#state.script(
        now,
        'page',
        `${now.prefix}h`,
        `${now.prefix}a`,
        packIds(queries.map((query) => query.userId)),
        before >= MAX_ID ? '' : packIds([before]),
        count,
        editKey(now),
        SECONDS_TO_LIVE,
        randomUUID(),
        ...queries.map((query) => query.digest ?? ''),
      )) as Reply[];
      return replies.map((reply) => ({ now, reply }));
    });
  }

  async #cachedParts(query: PageQuery): Promise<CachedParts | 'same' | undefined> {
    const { now, reply } = await this.#ask(`${query.before}:${query.count}`, query);
    if (typeof reply === 'number') return 'same';
    const [digest, celebrities, feed, ...rings] = reply;
    if (!celebrities || !feed) return undefined;
    return {
      now,
      feed: unpackSlice(feed),
      owners: [query.userId, ...readIds(celebrities)],
      rings: rings.map((ring) => (ring ? unpackSlice(ring) : undefined)),
      digest: digest?.toString('latin1'),
    };
  }

  /**
   * Loads missing rings. After a wait for other loads it reads again: one of them may have kept the
   * rings.
   */
  #complete(
    first: CachedParts,
    query: PageQuery,
    load: LoadRings,
  ): Promise<CachedParts | 'same' | undefined> {
    const waits = this.#loads.executionSlots === 0;
    return this.#loads.execute(async () => {
      const parts = waits ? await this.#cachedParts(query) : first;
      return parts && parts !== 'same' ? this.#withRings(parts, query, load) : parts;
    });
  }

  /** Loads the rings that are not cached, and keeps those that no other process is loading. */
  async #withRings(parts: CachedParts, query: PageQuery, load: LoadRings): Promise<CachedParts> {
    const { now, owners, rings } = parts;
    const missing = owners.filter((_, i) => !rings[i]);
    if (missing.length === 0) return parts;
    const state = this.#state;
    const token = randomBytes(8);
    const leased = await takeLeases(state, now, 'a', missing, token).catch(() => '');
    const found = new Map((await load(missing)).map((ring) => [ring.authorId, ring]));
    const values = missing.flatMap((id, i) =>
      leased[i] === 'L' ? [keyOf(now, 'a', id), found.has(id) ? packRing(found.get(id)!) : ''] : [],
    );
    if (values.length > 0) await state.script(now, 'fill', token, SECONDS_TO_LIVE, ...values).catch(() => {});
    const complete = rings.map((ring, i) => ring ?? sliceOf(found.get(owners[i]!), query));
    return { ...parts, rings: complete, digest: undefined };
  }

  /**
   * Adds cached posts to `found`. Returns the entries that are not cached, and the state that was
   * read.
   */
  async #cachedPosts(
    wanted: readonly FeedEntry[],
    found: Map<number, Post>,
  ): Promise<{ now: State; missing: readonly FeedEntry[] }> {
    const [now, values] = await this.#state.run(async (state) => {
      const keys = wanted.map((entry) => keyOf(state, 'p', entry.postId));
      return [state, await this.#state.getMany(state, keys)] as const;
    });
    const missing = wanted.filter(({ postId }, i) => {
      const value = values[i];
      const post = value && unpackPost(postId, value);
      if (post) found.set(postId, post);
      return !value;
    });
    return { now, missing };
  }
}

const bytesOf = ({ rows }: DigestedPage): number =>
  rows.reduce((sum, row) => sum + ROW_BYTES + 2 * row.body.length, ROW_BYTES);

function sliceOf(ring: AuthorPosts | undefined, { before, count }: PageQuery): Slice {
  if (!ring) return { completeAbove: 0, entries: [] };
  const below = ring.postIds.filter((id) => id < before);
  const cut = below.at(-1 - count);
  return {
    completeAbove: cut ?? ring.completeAbove,
    entries: below
      .slice(-count)
      .reverse()
      .map((postId) => ({ postId, authorId: ring.authorId })),
  };
}

function merge({ feed, rings, digest }: CachedParts, count: number): PageEntries {
  const parts: (Slice & { source: PageEntry['source'] })[] = [{ ...feed, source: 'pushed' }];
  for (const [i, ring] of rings.entries()) parts.push({ ...ring!, source: i === 0 ? 'own' : 'pulled' });
  const byId = new Map<number, PageEntry>();
  for (const { entries, source } of parts)
    for (const entry of entries) if (!byId.has(entry.postId)) byId.set(entry.postId, { ...entry, source });
  return {
    entries: [...byId.values()].sort((a, b) => b.postId - a.postId),
    completeAbove: Math.max(...parts.map((part) => part.completeAbove)),
    more: parts.some((part) => part.entries.length === count),
    digest,
  };
}
