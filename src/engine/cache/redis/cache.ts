import { randomUUID } from 'node:crypto';
import { type BulkheadPolicy, bulkhead } from 'cockatiel';
import type { Database, Queryable } from '../../database/database.ts';
import type { Identity } from '../../identity/identity.ts';
import type { FeedEntry } from '../../model/feed.ts';
import { packIds, readId } from '../../model/messages.ts';
import type { Post } from '../../model/post.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { sampleOf } from '../../util/sample.ts';
import type { ServerUrl } from '../../util/serverUrl.ts';
import type { CachedFeed, CacheHealth, CacheStats, FeedCache, LoadedFeed, PageCache } from '../cache.ts';
import { keysOfUser } from './findUser.ts';
import {
  packDeleted,
  packFeedRows,
  packPost,
  packPosts,
  SlotBitmap,
  slotOfId,
  unpackFeed,
  unpackPost,
} from './format.ts';
import { editKey, type Kind, keyOf, SECONDS_TO_LIVE, slotBitmapKey } from './keys.ts';
import { RedisPages } from './pages.ts';
import { Refills } from './refill.ts';
import { ignoreCacheError, RedisState, type State } from './state.ts';

/** Values of one MGET in a scan of all: 100 feeds are some 2 MB. */
const VALUES_A_READ = 100;
/** Up to this many posts are pushed without reading the slot bitmap of 128 KB first. */
const POSTS_WITHOUT_BITMAP = 4;
/** Concurrent loads from the database: a cold cache must not take all of its connections. */
const LOADS = 8;

/**
 * Opens the cache in Redis. A Redis that is down is no error: feeds are read from the database
 * until it is back. Throws CACHE_REFUSED, CACHE_TLS_FAILED, CACHE_UNSUITABLE or CONFIG_INVALID.
 * `identity`: read here where the caller has none.
 */
export async function openRedisCache(
  url: string | ServerUrl,
  db: Database,
  log: Log,
  metrics?: Metrics,
  identity?: Identity,
): Promise<RedisFeedCache> {
  return new RedisFeedCache(await RedisState.open(url, db, log, metrics, identity));
}

/**
 * Feeds, posts and authors' rings in Redis. Every change is reported to it after its commit and
 * before it is acknowledged, so the two methods inside the transaction do nothing.
 */
export class RedisFeedCache implements FeedCache {
  readonly kind = 'redis';
  readonly state: RedisState;
  readonly pages: PageCache;
  readonly #refills: Refills;
  readonly #counts = { hits: 0, misses: 0, refills: 0, refused: 0, postHits: 0, postMisses: 0 };

  constructor(state: RedisState) {
    this.state = state;
    const loads: BulkheadPolicy = bulkhead(LOADS, Number.POSITIVE_INFINITY);
    const counts = this.#counts;
    this.#refills = new Refills({ state, counts, loads, get: (userId) => this.get(userId) });
    this.pages = new RedisPages(state, counts, loads);
  }

  get(userId: number): Promise<CachedFeed | undefined> {
    return this.#read(userId).catch(ignoreCacheError);
  }

  refill(userId: number, load: () => Promise<LoadedFeed>): Promise<CachedFeed> {
    return this.#refills.run(userId, load);
  }

  async changing(): Promise<void> {}

  async writing(): Promise<void> {}

  resetting(session: Queryable): Promise<void> {
    return this.state.epoch.raiseWithin(session);
  }

  async forget(userIds: readonly number[]): Promise<void> {
    if (userIds.length === 0) return;
    this.#refills.forget(userIds);
    const ids = packIds(userIds);
    await this.state.report((now) => this.state.script(now, 'forget', `${now.prefix}h`, ids), {
      awaitReaders: true,
    });
  }

  async push(rows: readonly Buffer[]): Promise<void> {
    await this.state.report(
      async (now) => {
        // Read after the commit: a load whose lease sets its slot later sees what was committed.
        const slots = await this.#slots(now, 'h');
        if (!slots.empty) await this.#push(now, 'h', packFeedRows(rows, slots));
      },
      { awaitReaders: false },
    );
  }

  async posted(posts: readonly FeedEntry[]): Promise<void> {
    await this.state.report(
      async (now) => {
        const slots = posts.length > POSTS_WITHOUT_BITMAP ? await this.#slots(now, 'a') : undefined;
        const cached = slots ? posts.filter((post) => slots.has(slotOfId(post.authorId))) : posts;
        await this.#push(now, 'a', packPosts(cached));
      },
      { awaitReaders: false },
    );
  }

  async edited({ postId }: FeedEntry, load: () => Promise<Post | undefined>): Promise<void> {
    const post = await load();
    const value = post ? packPost(post) : packDeleted();
    await this.state.report((now) => this.#edit(now, postId, value), { awaitReaders: true });
  }

  async deleted({ postId }: FeedEntry): Promise<void> {
    await this.state.report((now) => this.#edit(now, postId, packDeleted()), { awaitReaders: true });
  }

  async erased(userId: number): Promise<void> {
    const { state } = this;
    await state.report(
      async (now) => {
        for await (const keys of keysOfUser(state, now, userId))
          await state.connection.remove(now.runId, keys);
      },
      { awaitReaders: true },
    );
  }

  async *texts(posts?: readonly FeedEntry[]): AsyncGenerator<Post[]> {
    const { state } = this;
    const now = await state.now();
    const parts = posts
      ? inParts(posts.map(({ postId }) => keyOf(now, 'p', postId)))
      : state.connection.keys(now.runId, `${now.prefix}p*`);
    for await (const keys of parts) {
      const values = await state.getMany(now, keys);
      yield keys.flatMap((key, i) => {
        const post = values[i] && unpackPost(readId(key, key.length - 8), values[i]);
        return post ? [post] : [];
      });
    }
  }

  async fixText({ postId }: FeedEntry, load: () => Promise<Post | undefined>): Promise<void> {
    const { state } = this;
    const post = await load();
    await state.report(
      async (now) => {
        // The wrong value may claim a newer version, which an edit would not replace.
        await state.connection.remove(now.runId, [keyOf(now, 'p', postId)]);
        await this.#edit(now, postId, post ? packPost(post) : packDeleted());
      },
      { awaitReaders: true },
    );
  }

  sample(count: number): number[] {
    const readers = this.pages.hotReaders(Number.POSITIVE_INFINITY).map(({ userId }) => userId);
    return sampleOf(readers, count);
  }

  async discard(userId: number, posts: readonly FeedEntry[]): Promise<void> {
    await this.forget([userId]);
    const authors = [...new Set([userId, ...posts.map(({ authorId }) => authorId)])];
    const rings = packIds(authors);
    await this.state.report((now) => this.state.script(now, 'forget', `${now.prefix}a`, rings), {
      awaitReaders: false,
    });
  }

  residue(userId: number): Promise<number> {
    return this.state.run(async (now) => {
      let count = 0;
      for await (const keys of keysOfUser(this.state, now, userId)) count += keys.length;
      return count;
    });
  }

  async *entries(userIds: readonly number[] = []): AsyncGenerator<[number, CachedFeed]> {
    const { state } = this;
    for (const part of inParts(userIds)) {
      const values = await state
        .run((now) =>
          state.getMany(
            now,
            part.map((userId) => keyOf(now, 'h', userId)),
          ),
        )
        .catch(ignoreCacheError);
      for (const [i, userId] of part.entries()) {
        const feed = values?.[i] && unpackFeed(values[i]);
        if (feed) yield [userId, feed];
      }
    }
  }

  begin(): Promise<void> {
    return this.state.begin();
  }

  isUsed(): Promise<boolean> {
    return this.state.isUsed();
  }

  stats(): CacheStats {
    return { ...this.#counts, checks: this.state.epoch.checks, failures: this.state.failures };
  }

  health(): CacheHealth {
    return this.state.health();
  }

  close(): Promise<void> {
    return this.state.close();
  }

  async #read(userId: number): Promise<CachedFeed | undefined> {
    const { state } = this;
    if (!(await state.epoch.trusted())) return undefined;
    const [value] = await state.run((now) => state.getMany(now, [keyOf(now, 'h', userId)]));
    return value ? unpackFeed(value) : undefined;
  }

  async #slots(now: State, kind: Kind): Promise<SlotBitmap> {
    const bitmaps = await this.state.script(now, 'slots', slotBitmapKey(now, kind));
    return new SlotBitmap(bitmaps as (Buffer | null)[]);
  }

  async #push(now: State, kind: Kind, parts: readonly Buffer[]): Promise<void> {
    await Promise.all(parts.map((part) => this.state.script(now, 'push', now.prefix + kind, part)));
  }

  #edit(now: State, postId: number, value: Buffer): Promise<unknown> {
    const key = keyOf(now, 'p', postId);
    return this.state.script(now, 'edit', editKey(now), randomUUID(), SECONDS_TO_LIVE, key, value);
  }
}

function* inParts<T>(all: readonly T[]): Generator<T[]> {
  for (let from = 0; from < all.length; from += VALUES_A_READ) yield all.slice(from, from + VALUES_A_READ);
}
