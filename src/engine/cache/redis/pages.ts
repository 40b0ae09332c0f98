import { randomBytes, randomUUID } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { FeedEntry } from '../../model/feed.ts';
import { MAX_ID } from '../../model/ids.ts';
import { packIds, readIds } from '../../model/messages.ts';
import type { Post } from '../../model/post.ts';
import { batchCalls } from '../../util/batch.ts';
import { HeavyHitters } from '../../util/heavyHitters.ts';
import type { Slots } from '../../util/semaphore.ts';
import type { AuthorPosts, DigestedPage, PageCache, PageEntries, PageEntry } from '../cache.ts';
import { isCacheError } from './connection.ts';
import { packRing, packStored, unpackPost, unpackSlice } from './format.ts';
import { editKey, type Kind, keyOf, SECONDS_TO_LIVE } from './keys.ts';
import type { RedisState, State } from './state.ts';

/** Readers who are counted; the feeds of the first of them are read again when everything is gone. */
const HOT_READERS = 1_000;
const WARMED = 500;
/** Readers of one call: a millisecond of Redis at most. */
const PAGES_A_CALL = 64;
/** Of pages that were read. */
const SEALED_BYTES = 64 * 1024 ** 2;
const ROW_BYTES = 200;

interface Parts {
  readonly state: RedisState;
  readonly counts: { hits: number; misses: number; postHits: number; postMisses: number };
  /** Loads at a time. */
  readonly loads: Slots;
  readonly lease: (now: State, kind: Kind, ids: readonly number[], token: Buffer) => Promise<string>;
}

interface PageQuery {
  readonly userId: number;
  readonly before: number;
  readonly count: number;
  readonly again?: boolean;
  readonly seal?: string | undefined;
  readonly unconfirmed?: boolean | undefined;
}

/** A reply of PAGE for one user. */
type Reply = (Buffer | null)[] | number;

type Slice = ReturnType<typeof unpackSlice>;

/** What Redis holds for a page; the ring of an owner that is not held is undefined. The first owner is the reader. */
interface Held {
  readonly now: State;
  readonly feed: Slice;
  readonly owners: readonly number[];
  readonly rings: readonly (Slice | undefined)[];
  readonly seal: string | undefined;
}

/**
 * Pages out of Redis alone: two round trips, one for what is on them and one for the texts. What is missing is loaded
 * by whoever misses it, and never taken from a load that had begun before: that one may not know of a change which
 * was acknowledged since.
 */
export function openPages({ state, counts, loads, lease }: Parts): PageCache {
  const ask = batchCalls(PAGES_A_CALL, (queries: readonly PageQuery[]) =>
    state.run(async (now) => {
      const { before, count } = queries[0]!;
      const replies = (await state.script(
        now,
        'PAGE',
        `${now.prefix}h`,
        `${now.prefix}a`,
        packIds(queries.map((query) => query.userId)),
        before >= MAX_ID ? '' : packIds([before]),
        count,
        editKey(now),
        SECONDS_TO_LIVE,
        randomUUID(),
        ...queries.map((query) => query.seal ?? ''),
      )) as Reply[];
      return replies.map((reply) => ({ now, reply }));
    }),
  );
  const held = async (query: PageQuery): Promise<Held | 'same' | undefined> => {
    const { now, reply } = await ask(`${query.before}:${query.count}`, query);
    if (typeof reply === 'number') return 'same';
    const [seal, celebrities, feed, ...rings] = reply;
    if (!celebrities || !feed) return undefined;
    return {
      now,
      feed: unpackSlice(feed),
      owners: [query.userId, ...readIds(celebrities)],
      rings: rings.map((ring) => (ring ? unpackSlice(ring) : undefined)),
      seal: seal?.toString('latin1'),
    };
  };

  /** Loads the rings that are not held, and keeps those that nobody else is loading. */
  const withRings = async (
    { now, feed, owners, rings, seal }: Held,
    query: PageQuery,
    load: (authorIds: readonly number[]) => Promise<AuthorPosts[]>,
  ): Promise<Held> => {
    const missing = owners.filter((_, i) => !rings[i]);
    if (missing.length === 0) return { now, feed, owners, rings, seal };
    const token = randomBytes(8);
    const leased = await lease(now, 'a', missing, token).catch(() => '');
    const found = new Map((await load(missing)).map((ring) => [ring.authorId, ring]));
    const values = missing.flatMap((id, i) =>
      leased[i] === 'L' ? [keyOf(now, 'a', id), found.has(id) ? packRing(found.get(id)!) : ''] : [],
    );
    if (values.length > 0) await state.script(now, 'FILL', token, SECONDS_TO_LIVE, ...values).catch(() => {});
    const complete = rings.map((ring, i) => ring ?? sliceOf(found.get(owners[i]!), query));
    return { now, feed, owners, rings: complete, seal: undefined };
  };

  const hot = new HeavyHitters(HOT_READERS);
  const pages: PageCache = {
    onCold: () => {},
    hotReaders: (limit) => hot.top(limit).map(({ key, count }) => ({ userId: key, reads: count })),
    sealed: new LRUCache<string, DigestedPage>({ maxSize: SEALED_BYTES, sizeCalculation: bytesOf }),
    async page(query, load) {
      if (!query.again) hot.add(query.userId);
      if (!query.unconfirmed && !(await state.epoch.trusted())) return 'away';
      try {
        let found = await held(query);
        if (found !== 'same' && found?.rings.includes(undefined))
          found = await loads.run(async (waited) => {
            const again = waited ? await held(query) : found;
            return again && again !== 'same' ? withRings(again, query, load) : again;
          });
        if (!query.again) counts[found ? 'hits' : 'misses'] += 1;
        if (found === 'same') return found;
        return found ? merge(found, query.count) : 'missing';
      } catch (error) {
        if (isCacheError(error)) return 'away';
        throw error;
      }
    },

    async posts(entries, load) {
      const found = new Map<number, Post>();
      /** Adds what is held; returns the rest, and the state that it was missing in. */
      const look = async (wanted: readonly FeedEntry[]) => {
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
      const first = await look(entries).catch((error) => {
        if (isCacheError(error)) return undefined;
        throw error;
      });
      if (!first) return undefined;
      counts.postHits += entries.length - first.missing.length;
      counts.postMisses += first.missing.length;
      if (first.missing.length === 0) return found;
      await loads.run(async (waited) => {
        const { now, missing } = (waited && (await look(first.missing).catch(() => undefined))) || first;
        if (missing.length === 0) return;
        const stored = await load(missing);
        for (const post of stored) if (!post.deleted) found.set(post.id, post);
        const kept = stored.flatMap((post) => [keyOf(now, 'p', post.id), packStored(post)]);
        if (kept.length > 0) await state.script(now, 'POSTS', SECONDS_TO_LIVE, ...kept).catch(() => {});
      });
      return found;
    },
  };
  state.onCold = () => pages.onCold(hot.top(WARMED).map(({ key }) => key));
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

function merge({ feed, rings, seal }: Held, count: number): PageEntries {
  const parts: (Slice & { source: PageEntry['source'] })[] = [{ ...feed, source: 'pushed' }];
  for (const [i, ring] of rings.entries()) parts.push({ ...ring!, source: i === 0 ? 'own' : 'pulled' });
  const byId = new Map<number, PageEntry>();
  for (const { entries, source } of parts)
    for (const entry of entries) if (!byId.has(entry.postId)) byId.set(entry.postId, { ...entry, source });
  return {
    entries: [...byId.values()].sort((a, b) => b.postId - a.postId),
    completeAbove: Math.max(...parts.map((part) => part.completeAbove)),
    more: parts.some((part) => part.entries.length === count),
    seal,
  };
}
