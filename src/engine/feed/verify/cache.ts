import { setTimeout as sleep } from 'node:timers/promises';
import type { CachedFeed, FeedCache } from '../../cache/cache.ts';
import type { Store } from '../../database/sharding.ts';
import { FEED_LIMIT, type FeedEntry } from '../../model/feed.ts';
import { loadFeed } from '../../store/feeds.ts';
import { storedPosts } from '../../store/posts.ts';
import type { FeedFaults } from './postgres.ts';

/** Rows are committed a moment before the cache is told: what still differs at the last look is a fault. */
const LOOKS = 4;
const RECHECK_MS = 250;

export interface CacheFaults extends FeedFaults {
  /** Posts that are held twice. */
  readonly duplicates: number;
}

/** What is held of some feeds against the table; of a cache in memory only repeats, as it joins follows when it is read. */
export async function compareCache(
  db: Store,
  cache: FeedCache,
  userIds: readonly number[] | undefined,
): Promise<CacheFaults[]> {
  let faults = await look(db, cache, userIds);
  for (let looks = 1; looks < LOOKS && faults.length > 0 && cache.pages; looks += 1) {
    await sleep(RECHECK_MS);
    faults = await look(
      db,
      cache,
      faults.map((fault) => fault.userId),
    );
  }
  return faults;
}

/** Posts whose text is held and is not theirs any more: they are deleted, or have another one. */
export async function staleTexts(
  db: Store,
  cache: FeedCache,
  posts: readonly FeedEntry[] | undefined,
): Promise<FeedEntry[]> {
  let stale = await lookAtTexts(db, cache, posts);
  for (let looks = 1; looks < LOOKS && stale.length > 0; looks += 1) {
    await sleep(RECHECK_MS);
    stale = await lookAtTexts(db, cache, stale);
  }
  return stale;
}

async function lookAtTexts(
  db: Store,
  cache: FeedCache,
  posts: readonly FeedEntry[] | undefined,
): Promise<FeedEntry[]> {
  const stale = new Map<number, FeedEntry>();
  for await (const held of cache.texts?.(posts) ?? []) {
    const entries = held.map(({ id, authorId }) => ({ postId: id, authorId }));
    const stored = new Map((await storedPosts(db, entries)).map((post) => [post.id, post]));
    for (const { id, authorId, body, version } of held) {
      const now = stored.get(id);
      if (!now || now.deleted || now.version !== version || now.body !== body)
        stale.set(id, { postId: id, authorId });
    }
  }
  return [...stale.values()];
}

async function look(
  db: Store,
  cache: FeedCache,
  userIds: readonly number[] | undefined,
): Promise<CacheFaults[]> {
  const faults: CacheFaults[] = [];
  for await (const [userId, held] of cache.entries(userIds)) {
    const distinct = new Set(held.entries.map((entry) => entry.postId));
    const duplicates = held.entries.length - distinct.size;
    const { missing, strangers } = cache.pages
      ? await differences(db, userId, held)
      : { missing: 0, strangers: 0 };
    if (duplicates + missing + strangers > 0)
      faults.push({ userId, missing, strangers, orphans: 0, duplicates });
  }
  return faults;
}

/** Posts that are deleted stay in what is held: they have no text. */
async function differences(
  db: Store,
  userId: number,
  held: CachedFeed,
): Promise<{ missing: number; strangers: number }> {
  const table = await loadFeed(db, userId, { entries: FEED_LIMIT, own: 0 });
  const known = new Set(held.entries.map((entry) => entry.postId));
  const followees = new Set(table.followees);
  return {
    missing: table.entries.filter(({ postId }) => postId > held.completeAbove && !known.has(postId)).length,
    strangers: held.entries.filter(({ authorId }) => !followees.has(authorId)).length,
  };
}
