import { randomBytes, randomUUID } from 'node:crypto';
import type { BulkheadPolicy } from 'cockatiel';
import { LRUCache } from 'lru-cache';
import type { FeedEntry } from '../../model/feed.ts';
import { MAX_ID } from '../../model/ids.ts';
import { packIds, readIds } from '../../model/messages.ts';
import type { Post } from '../../model/post.ts';
import { batchCalls } from '../../util/batch.ts';
import { HeavyHitters } from '../../util/heavyHitters.ts';
import type { AuthorPosts, DigestedPage, PageCache, PageEntries, PageEntry, PageQuery } from '../cache.ts';
import { isCacheError } from './connection.ts';
import { packRing, packStored, unpackPost, unpackSlice } from './format.ts';
import { editKey, keyOf, SECONDS_TO_LIVE } from './keys.ts';
import { takeLeases } from './refill.ts';
import type { RedisState, State } from './state.ts';

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

interface Parts {
  readonly state: RedisState;
  readonly counts: { hits: number; misses: number; postHits: number; postMisses: number };
  /** Bounds the loads of this process. */
  readonly loads: BulkheadPolicy;
}

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
 * Opens pages out of Redis alone. A page takes two round trips: one for its entries and one for the
 * texts. Missing parts are loaded by the reader that misses them. A reader never shares a load that
 * began before its read: such a load may lack a change that was acknowledged meanwhile.
 */
export function openPages({ state, counts, loads }: Parts): PageCache {
  const ask = batchCalls(PAGES_A_CALL, (queries: readonly PageQuery[]) =>
    state.run(async (now) => {
      const { before, count } = queries[0]!;
      const replies = (await state.script(
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
    }),
  );
  const cachedParts = async (query: PageQuery): Promise<CachedParts | 'same' | undefined> => {
    const { now, reply } = await ask(`${query.before}:${query.count}`, query);
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
  };

  /** Loads the rings that are not cached, and keeps those that no other process is loading. */
  const withRings = async (
    { now, feed, owners, rings, digest }: CachedParts,
    query: PageQuery,
    load: (authorIds: readonly number[]) => Promise<AuthorPosts[]>,
  ): Promise<CachedParts> => {
    const missing = owners.filter((_, i) => !rings[i]);
    if (missing.length === 0) return { now, feed, owners, rings, digest };
    const token = randomBytes(8);
    const leased = await takeLeases(state, now, 'a', missing, token).catch(() => '');
    const found = new Map((await load(missing)).map((ring) => [ring.authorId, ring]));
    const values = missing.flatMap((id, i) =>
      leased[i] === 'L' ? [keyOf(now, 'a', id), found.has(id) ? packRing(found.get(id)!) : ''] : [],
    );
    if (values.length > 0) await state.script(now, 'fill', token, SECONDS_TO_LIVE, ...values).catch(() => {});
    const complete = rings.map((ring, i) => ring ?? sliceOf(found.get(owners[i]!), query));
    return { now, feed, owners, rings: complete, digest: undefined };
  };

  /**
   * Returns the posts of these entries that are cached, the others, and the state that was read.
   */
  const cachedPosts = async (wanted: readonly FeedEntry[], found: Map<number, Post>) => {
    const now = await state.now();
    const keys = wanted.map((entry) => keyOf(now, 'p', entry.postId));
    const values = await state.connection.getMany(now.runId, keys);
    const missing = wanted.filter(({ postId }, i) => {
      const value = values[i];
      const post = value && unpackPost(postId, value);
      if (post) found.set(postId, post);
      return !value;
    });
    return { now, missing };
  };

  const hot = new HeavyHitters(HOT_READERS);
  const pages: PageCache = {
    onCold: () => {},
    hotReaders: (count) => hot.top(count),
    recentPages: new LRUCache<string, DigestedPage>({
      maxSize: RECENT_PAGES_BYTES,
      sizeCalculation: bytesOf,
    }),
    async page(query, load) {
      if (!query.isRetry) hot.saw(query.userId);
      if (!query.staleOk && !(await state.epoch.trusted())) return 'unavailable';
      try {
        let found = await cachedParts(query);
        if (found !== 'same' && found?.rings.includes(undefined)) {
          // After a wait for other loads the rings may have been cached by one of them.
          const waits = loads.executionSlots === 0;
          const first = found;
          found = await loads.execute(async () => {
            const parts = waits ? await cachedParts(query) : first;
            return parts && parts !== 'same' ? withRings(parts, query, load) : parts;
          });
        }
        if (!query.isRetry) counts[found ? 'hits' : 'misses'] += 1;
        if (found === 'same') return found;
        return found ? merge(found, query.count) : 'missing';
      } catch (error) {
        if (isCacheError(error)) return 'unavailable';
        throw error;
      }
    },

    async posts(entries, load) {
      const found = new Map<number, Post>();
      const first = await cachedPosts(entries, found).catch((error) => {
        if (isCacheError(error)) return undefined;
        throw error;
      });
      if (!first) return undefined;
      counts.postHits += entries.length - first.missing.length;
      counts.postMisses += first.missing.length;
      if (first.missing.length === 0) return found;
      const waits = loads.executionSlots === 0;
      await loads.execute(async () => {
        const afterWait = waits && (await cachedPosts(first.missing, found).catch(() => undefined));
        const { now, missing } = afterWait || first;
        if (missing.length === 0) return;
        const stored = await load(missing);
        for (const post of stored) if (!post.deleted) found.set(post.id, post);
        const kept = stored.flatMap((post) => [keyOf(now, 'p', post.id), packStored(post)]);
        if (kept.length > 0) await state.script(now, 'posts', SECONDS_TO_LIVE, ...kept).catch(() => {});
      });
      return found;
    },
  };
  state.onCold = () => pages.onCold(hot.top(WARMED).map(({ userId }) => userId));
  return pages;
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
