import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../database/database.ts';
import { packIds, readId } from '../../model/messages.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { Slots } from '../../util/semaphore.ts';
import type { CachedFeed, CacheStats, FeedCache, LoadedFeed } from '../cache.ts';
import { isCacheError } from './connection.ts';
import { keysOfUser } from './findUser.ts';
import {
  packDeleted,
  packFeed,
  packPost,
  packPosts,
  packRing,
  packRows,
  SlotBitmap,
  slotOfId,
  unpackFeed,
  unpackPost,
} from './format.ts';
import { editKey, type Kind, keyOf, SECONDS_TO_LIVE, slotBitmapKey } from './keys.ts';
import { openPages } from './pages.ts';
import { RedisState, type State } from './state.ts';

/** Feeds of one MGET where all are looked at: some 2 MB. */
const FEEDS_A_LOOK = 100;
/** Posts told one by one; for more, the marks are asked first. */
const POSTS_UNASKED = 4;
/** Loads from the database on behalf of the cache at a time: a cold cache is no stampede. */
const LOADS = 8;
/** How often, and how many times, a reader looks whether another one's refill has ended. */
const POLL_MS = 20;
const LOOKS = 10;

export interface RedisFeedCache extends FeedCache {
  readonly state: RedisState;
}

/**
 * Feeds, posts and authors' rings in Redis, told of every change before it is acknowledged. Throws CACHE_REFUSED,
 * CACHE_TLS_FAILED, CACHE_UNSUITABLE or CONFIG_INVALID; a Redis that is away is gone without until it is back.
 */
export async function openRedisCache(
  url: string,
  db: Database,
  log: Log,
  metrics?: Metrics,
): Promise<RedisFeedCache> {
  const state = await RedisState.open(url, db, log, metrics);
  const loads = new Slots(LOADS);
  const running = new Map<number, Promise<CachedFeed>>();
  const counts = { hits: 0, misses: 0, refills: 0, refused: 0, postHits: 0, postMisses: 0 };

  const marks = async (now: State, kind: Kind): Promise<SlotBitmap> =>
    new SlotBitmap((await state.script(now, 'MARKS', slotBitmapKey(now, kind))) as (Buffer | null)[]);
  const push = async (now: State, kind: Kind, parts: readonly Buffer[]) => {
    await Promise.all(parts.map((part) => state.script(now, 'PUSH', now.prefix + kind, part)));
  };
  const lease = async (now: State, kind: Kind, ids: readonly number[], token: Buffer): Promise<string> => {
    const slots = Buffer.alloc(4 * ids.length);
    for (const [i, id] of ids.entries()) slots.writeUInt32BE(slotOfId(id), 4 * i);
    return String(
      await state.script(
        now,
        'LEASE',
        now.prefix + kind,
        packIds(ids),
        token,
        slotBitmapKey(now, kind),
        slots,
      ),
    );
  };

  const edit = (now: State, postId: number, value: Buffer) =>
    state.script(now, 'EDIT', editKey(now), randomUUID(), SECONDS_TO_LIVE, keyOf(now, 'p', postId), value);

  const get = async (userId: number): Promise<CachedFeed | undefined> => {
    if (!(await state.epoch.trusted())) return undefined;
    const [value] = await state.run((now) => state.connection.getMany(now.runId, [keyOf(now, 'h', userId)]));
    return value ? unpackFeed(value) : undefined;
  };
  const getOrNothing = (userId: number) => get(userId).catch(unlessStore);

  /** Under a lease, where one can be had; another's refill is waited for a little while. */
  const refill = async (userId: number, load: () => Promise<LoadedFeed>): Promise<CachedFeed> => {
    const token = randomBytes(8);
    let leased: { now: State; own: boolean } | undefined;
    for (let looks = 0; looks < LOOKS && !leased; looks += 1) {
      const got = await state
        .run(async (now) => {
          const [feed, own] = await Promise.all([
            lease(now, 'h', [userId], token),
            lease(now, 'a', [userId], token),
          ]);
          if (feed === 'L') leased = { now, own: own === 'L' };
          return feed;
        })
        .catch(unlessStore);
      if (got === 'H') {
        const feed = await getOrNothing(userId);
        if (feed) return feed;
      }
      if (got === undefined || leased) break;
      await sleep(POLL_MS);
    }
    counts.refills += 1;
    const fill = async (feed?: LoadedFeed): Promise<void> => {
      let kept: unknown = 0;
      if (leased) {
        const { now, own } = leased;
        const values = [keyOf(now, 'h', userId), feed ? packFeed(feed) : ''];
        if (own) values.push(keyOf(now, 'a', userId), feed ? packRing(feed.own) : '');
        kept = await state.script(now, 'FILL', token, SECONDS_TO_LIVE, ...values).catch(unlessStore);
      }
      if (!kept) counts.refused += 1;
    };
    try {
      const feed = await load();
      await fill(feed);
      return feed;
    } catch (error) {
      await fill();
      throw error;
    }
  };

  return {
    kind: 'redis',
    state,
    get: getOrNothing,
    refill(userId, load) {
      const shared = running.get(userId);
      if (shared) return shared;
      const result = loads
        .run(() => refill(userId, load))
        .finally(() => {
          if (running.get(userId) === result) running.delete(userId);
        });
      running.set(userId, result);
      return result;
    },
    pages: openPages({ state, counts, loads, lease }),
    changing: async () => {},
    writing: async () => {},
    resetting: (session) => state.epoch.raiseWithin(session),
    async forget(userIds) {
      if (userIds.length === 0) return;
      for (const userId of userIds) running.delete(userId);
      const ids = packIds(userIds);
      await state.tell((now) => state.script(now, 'FORGET', `${now.prefix}h`, ids), { seen: true });
    },
    async push(rows) {
      await state.tell(
        async (now) => {
          // Asked after the commit: whoever marks their slot later will load what was committed.
          const held = await marks(now, 'h');
          if (!held.empty) await push(now, 'h', packRows(rows, held));
        },
        { seen: false },
      );
    },
    async posted(posts) {
      await state.tell(
        async (now) => {
          const held = posts.length > POSTS_UNASKED ? await marks(now, 'a') : undefined;
          const told = held ? posts.filter((post) => held.has(slotOfId(post.authorId))) : posts;
          await push(now, 'a', packPosts(told));
        },
        { seen: false },
      );
    },
    async edited({ postId }, load) {
      const post = await load();
      const value = post ? packPost(post) : packDeleted();
      await state.tell((now) => edit(now, postId, value), {
        seen: true,
      });
    },
    async deleted({ postId }) {
      await state.tell((now) => edit(now, postId, packDeleted()), { seen: true });
    },
    async erased(userId) {
      await state.tell(
        async (now) => {
          for await (const keys of keysOfUser(state, now, userId))
            await state.connection.remove(now.runId, keys);
        },
        { seen: true },
      );
    },
    async *texts(posts) {
      const now = await state.now();
      const parts = posts
        ? inParts(posts.map(({ postId }) => keyOf(now, 'p', postId)))
        : state.connection.keys(now.runId, `${now.prefix}p*`);
      for await (const keys of parts) {
        const values = await state.connection.getMany(now.runId, keys);
        yield keys.flatMap((key, i) => {
          const post = values[i] && unpackPost(readId(key, key.length - 8), values[i]);
          return post ? [post] : [];
        });
      }
    },
    async mendText({ postId }, load) {
      const post = await load();
      await state.tell(
        async (now) => {
          // What is held may say that it is newer.
          await state.connection.remove(now.runId, [keyOf(now, 'p', postId)]);
          await edit(now, postId, post ? packPost(post) : packDeleted());
        },
        { seen: true },
      );
    },
    async traces(userId) {
      let count = 0;
      await state.run(async (now) => {
        count = 0;
        for await (const keys of keysOfUser(state, now, userId)) count += keys.length;
      });
      return count;
    },
    async *entries(userIds = []) {
      for (let from = 0; from < userIds.length; from += FEEDS_A_LOOK) {
        const part = userIds.slice(from, from + FEEDS_A_LOOK);
        const values = await state
          .run((now) =>
            state.connection.getMany(
              now.runId,
              part.map((userId) => keyOf(now, 'h', userId)),
            ),
          )
          .catch(unlessStore);
        for (const [i, userId] of part.entries()) {
          const feed = values?.[i] && unpackFeed(values[i]);
          if (feed) yield [userId, feed];
        }
      }
    },
    stats: (): CacheStats => ({ ...counts, checks: state.epoch.checks, failures: state.failures }),
    health: () => state.health(),
    close: () => state.close(),
  };
}

function* inParts(keys: readonly Buffer[]): Generator<Buffer[]> {
  for (let from = 0; from < keys.length; from += FEEDS_A_LOOK) yield keys.slice(from, from + FEEDS_A_LOOK);
}

/** For what the cache may fail at without harm. */
function unlessStore(error: unknown): undefined {
  if (!isCacheError(error)) throw error;
}
