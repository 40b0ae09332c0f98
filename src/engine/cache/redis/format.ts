import { FEED_LIMIT, type FeedEntry } from '../../model/feed.ts';
import {
  packIds,
  ROW_BYTES,
  ROW_USER,
  readId,
  rowAuthor,
  rowPost,
  rowUser,
  writeId,
} from '../../model/messages.ts';
import type { Post, StoredPost } from '../../model/post.ts';
import type { AuthorPosts, CachedFeed, LoadedFeed } from '../cache.ts';

/** The layout of values is described in `lua/includes/state.lua`. */
const ENTRY_BYTES = 16;
const LIST_AT = 9;
const KIND = { feed: 0x48, ring: 0x52, post: 0x50, deleted: 0x44 } as const;
/** Version of a deleted post: no edit is newer. */
const MAX_VERSION = 0xffffffff;
const POST_BYTES = 21;

function packValue(
  kind: number,
  lists: readonly (readonly number[])[],
  completeAbove: number,
  entries: readonly FeedEntry[],
): Buffer {
  const listed = lists.reduce((sum, list) => sum + list.length, 0);
  const bytes = Buffer.alloc(LIST_AT + 8 * listed + ENTRY_BYTES * (1 + entries.length));
  bytes[0] = kind;
  bytes.writeUInt32BE(lists[0]?.length ?? 0, 1);
  bytes.writeUInt32BE(lists[1]?.length ?? 0, 5);
  let at = LIST_AT;
  for (const list of lists) {
    packIds(list).copy(bytes, at);
    at += 8 * list.length;
  }
  writeId(bytes, at, completeAbove);
  for (let i = entries.length - 1; i >= 0; i -= 1) {
    at += ENTRY_BYTES;
    writeId(bytes, at, entries[i]!.postId);
    writeId(bytes, at + 8, entries[i]!.authorId);
  }
  return bytes;
}

export const packFeed = (feed: LoadedFeed): Buffer =>
  packValue(KIND.feed, [feed.celebrities, feed.followees], feed.completeAbove, feed.entries);

export const packRing = (posts: AuthorPosts): Buffer =>
  packValue(
    KIND.ring,
    [],
    posts.completeAbove,
    posts.postIds.map((postId) => ({ postId, authorId: posts.authorId })).reverse(),
  );

/** Unpacks entries behind their bound, as `page.lua` returns them. The result is newest first. */
export function unpackSlice(bytes: Buffer): { completeAbove: number; entries: FeedEntry[] } {
  const entries: FeedEntry[] = [];
  for (let at = bytes.length - ENTRY_BYTES; at > 0; at -= ENTRY_BYTES)
    entries.push({ postId: readId(bytes, at), authorId: readId(bytes, at + 8) });
  return { completeAbove: readId(bytes, 0), entries };
}

/**
 * Returns undefined for a lease. A cached feed may have more entries than its limit: the rest is
 * cut.
 */
export function unpackFeed(bytes: Buffer): CachedFeed | undefined {
  if (bytes[0] !== KIND.feed) return undefined;
  const base = LIST_AT + 8 * (bytes.readUInt32BE(1) + bytes.readUInt32BE(5));
  const { completeAbove, entries } = unpackSlice(bytes.subarray(base));
  const cut = entries[FEED_LIMIT];
  return {
    entries: entries.slice(0, FEED_LIMIT),
    completeAbove: cut?.postId ?? completeAbove,
    floor: completeAbove,
  };
}

export function packPost(post: Post): Buffer {
  const text = Buffer.from(post.body);
  const bytes = Buffer.allocUnsafe(POST_BYTES + text.length);
  bytes[0] = KIND.post;
  bytes.writeUInt32BE(post.version, 1);
  bytes.writeDoubleBE(post.createdAt.getTime(), 5);
  writeId(bytes, 13, post.authorId);
  text.copy(bytes, POST_BYTES);
  return bytes;
}

export function packDeleted(): Buffer {
  const bytes = Buffer.alloc(5, KIND.deleted);
  bytes.writeUInt32BE(MAX_VERSION, 1);
  return bytes;
}

export const packStored = (post: StoredPost): Buffer => (post.deleted ? packDeleted() : packPost(post));

/** Returns undefined for a deleted post. */
export function unpackPost(id: number, bytes: Buffer): Post | undefined {
  if (bytes[0] !== KIND.post) return undefined;
  return {
    id,
    version: bytes.readUInt32BE(1),
    createdAt: new Date(bytes.readDoubleBE(5)),
    authorId: readId(bytes, 13),
    body: bytes.toString('utf8', POST_BYTES),
  };
}

/** Returns whether a feed or a post names a user. Leases are skipped: they expire within 5 s. */
export function namesUser(bytes: Buffer, userId: number): boolean {
  if (bytes[0] === KIND.post) return readId(bytes, 13) === userId;
  if (bytes[0] !== KIND.feed) return false;
  const base = LIST_AT + 8 * (bytes.readUInt32BE(1) + bytes.readUInt32BE(5));
  for (let at = LIST_AT; at < base; at += 8) if (readId(bytes, at) === userId) return true;
  return unpackSlice(bytes.subarray(base)).entries.some(({ authorId }) => authorId === userId);
}

const SLOT_BITS = 20;

/**
 * Returns the slot of an id in the slot bitmap. Takes the halves of the id: rows have them as such.
 */
export const slotOf = (high: number, low: number): number =>
  Math.imul(low ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1) >>> (32 - SLOT_BITS);

export const slotOfId = (id: number): number => slotOf(Math.floor(id / 2 ** 32), (id % 2 ** 32) | 0);

/**
 * Slots that may have a cached feed: the bitmaps of this hour and of the last, as `slots.lua`
 * returns them.
 */
export class SlotBitmap {
  readonly #bitmaps: Buffer[];

  constructor(bitmaps: readonly (Buffer | null)[]) {
    this.#bitmaps = bitmaps.filter((bitmap) => bitmap !== null);
  }

  get empty(): boolean {
    return this.#bitmaps.length === 0;
  }

  has(slot: number): boolean {
    for (const bitmap of this.#bitmaps) if ((bitmap[slot >> 3] ?? 0) & (0x80 >> (slot & 7))) return true;
    return false;
  }
}

/** Entries of one script call, a few milliseconds of Redis: pages are read in between. */
const ENTRIES_A_PUSH = 1_000;

/** An entry, and the owner of the feed or ring that gets it. */
interface Addressed extends FeedEntry {
  readonly owner: number;
}

/** Packs entries for `push.lua`, in parts. Entries of one owner are adjacent, the newest last. */
function packPushes(entries: Addressed[]): Buffer[] {
  entries.sort((a, b) => a.owner - b.owner || a.postId - b.postId);
  const parts: Buffer[] = [];
  let part = Buffer.allocUnsafe(0);
  let to = 0;
  let countAt = 0;
  for (const [i, { owner, postId, authorId }] of entries.entries()) {
    if (i % ENTRIES_A_PUSH === 0) {
      if (i > 0) parts.push(part.subarray(0, to));
      part = Buffer.allocUnsafe(28 * Math.min(ENTRIES_A_PUSH, entries.length - i));
      to = 0;
    }
    if (to === 0 || owner !== entries[i - 1]!.owner) {
      writeId(part, to, owner);
      countAt = to + 8;
      part.writeUInt32BE(0, countAt);
      to += 12;
    }
    part.writeUInt32BE(part.readUInt32BE(countAt) + 1, countAt);
    writeId(part, to, postId);
    writeId(part, to + 8, authorId);
    to += 16;
  }
  if (to > 0) parts.push(part.subarray(0, to));
  return parts;
}

/** Packs the rows, which are in COPY format, whose user may have a cached feed. */
export function packFeedRows(rows: readonly Buffer[], slots: SlotBitmap): Buffer[] {
  const cached: Addressed[] = [];
  let last = -1;
  let isCached = false;
  for (const part of rows) {
    for (let at = 0; at < part.length; at += ROW_BYTES) {
      const low = part.readUInt32BE(at + ROW_USER + 4);
      const slot = slotOf(part.readUInt32BE(at + ROW_USER), low);
      // Rows of one user are adjacent.
      if (slot !== last) isCached = slots.has(slot);
      last = slot;
      if (isCached)
        cached.push({ owner: rowUser(part, at), postId: rowPost(part, at), authorId: rowAuthor(part, at) });
    }
  }
  return packPushes(cached);
}

export const packPosts = (posts: readonly FeedEntry[]): Buffer[] =>
  packPushes(posts.map((post) => ({ ...post, owner: post.authorId })));
