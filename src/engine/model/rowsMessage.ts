import {
  HEADER_BYTES,
  invalidMessage,
  KIND,
  type MessageHeader,
  ROW_BYTES,
  ROW_USER,
  readHeader,
  readId,
  readIds,
  seal,
  writeId,
} from './messages.ts';

/**
 * Message of feed rows: the header of messages.ts, then blocks. A block stands for one row of each
 * of its posts for each of its users:
 *
 *     u16 posts, u32 users, i64 author, i64 for each post, i64 for each user
 *
 * A row takes at most 8 bytes instead of the 38 that COPY needs. Fewer bytes are copied, checked and
 * synced to the broker's disk. The writer expands the blocks to rows in COPY format.
 */
const BLOCK_BYTES = 14;
const USERS_AT = 2;
/** Limit that planners stay below: a message above it is refused before memory is allocated for it. */
const MAX_ROWS = 131_072;
/** Maximum posts of a block. */
export const MAX_POSTS = 65_535;

/** Posts of one author that go to the same users. */
export interface AuthorPosts {
  readonly authorId: number;
  /** At most MAX_POSTS. */
  readonly postIds: readonly number[];
}

/** Posts of one author and how many users get them. */
export interface PostsForUsers extends AuthorPosts {
  readonly users: number;
}

/** Builds a message row by row. */
export class RowsMessage {
  #bytes = Buffer.allocUnsafe(1_024);
  #length = HEADER_BYTES;
  #posts: AuthorPosts | undefined;
  #blockAt = 0;
  #users = 0;
  rows = 0;

  /**
   * Adds the posts for one user, given by the high and the low 32 bits of the id. Consecutive users
   * of the same `posts` object share a block.
   */
  add(high: number, low: number, posts: AuthorPosts): void {
    if (posts !== this.#posts) this.#begin(posts);
    this.#room(8);
    this.#bytes.writeUInt32BE(high, this.#length);
    this.#bytes.writeUInt32BE(low, this.#length + 4);
    this.#length += 8;
    this.#users += 1;
    this.rows += posts.postIds.length;
  }

  seal(header: MessageHeader): Buffer {
    this.#end();
    return seal(this.#bytes.subarray(0, this.#length), KIND.ROWS, header, this.rows);
  }

  #begin(posts: AuthorPosts): void {
    this.#end();
    this.#posts = posts;
    this.#blockAt = this.#length;
    this.#users = 0;
    this.#room(BLOCK_BYTES + 8 * posts.postIds.length);
    this.#bytes.writeUInt16BE(posts.postIds.length, this.#length);
    writeId(this.#bytes, this.#length + 6, posts.authorId);
    this.#length += BLOCK_BYTES;
    for (const postId of posts.postIds) {
      writeId(this.#bytes, this.#length, postId);
      this.#length += 8;
    }
  }

  #end(): void {
    if (this.#posts) this.#bytes.writeUInt32BE(this.#users, this.#blockAt + USERS_AT);
    this.#posts = undefined;
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + bytes));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

interface Block {
  /** Offset in the message. */
  readonly at: number;
  readonly posts: number;
  readonly users: number;
}

function* blocksOf(bytes: Buffer): Generator<Block> {
  for (let at = HEADER_BYTES; at < bytes.length; ) {
    if (at + BLOCK_BYTES > bytes.length) throw invalidMessage(`ends within the block at byte ${at}`);
    const posts = bytes.readUInt16BE(at);
    const users = bytes.readUInt32BE(at + USERS_AT);
    const next = at + BLOCK_BYTES + 8 * (posts + users);
    if (next > bytes.length) throw invalidMessage(`ends within the block at byte ${at}`);
    yield { at, posts, users };
    at = next;
  }
}

/** Checks a message. `records` is its number of rows. Throws BUS_MESSAGE_INVALID. */
export function readRows(bytes: Buffer): MessageHeader & { records: number } {
  const header = readHeader(bytes, KIND.ROWS);
  let count = 0;
  for (const { posts, users } of blocksOf(bytes)) count += posts * users;
  if (count !== header.records)
    throw invalidMessage(`counts ${header.records} rows, and its blocks have ${count}`);
  if (count > MAX_ROWS) throw invalidMessage(`has ${count} rows, more than ${MAX_ROWS}`);
  return header;
}

/** Returns the posts of each block. Throws BUS_MESSAGE_INVALID. */
export function decodeRows(bytes: Buffer): MessageHeader & { rows: PostsForUsers[] } {
  const { records: _, ...header } = readRows(bytes);
  const rows = [...blocksOf(bytes)].map(({ at, posts, users }) => ({
    authorId: readId(bytes, at + 6),
    postIds: readIds(bytes.subarray(at + BLOCK_BYTES, at + BLOCK_BYTES + 8 * posts)),
    users,
  }));
  return { ...header, rows };
}

/** Yields the post ids of a message that this process built. An id may appear several times. */
export function* postsIn(bytes: Buffer): Generator<number> {
  for (const { at, posts } of blocksOf(bytes))
    for (let post = 0; post < posts; post += 1) yield readId(bytes, at + BLOCK_BYTES + 8 * post);
}

/** Receives rows in PostgreSQL's binary COPY format, 38 bytes each. */
export interface RowSink {
  /** Buffer that `place` returns offsets of. */
  rows: Buffer;
  /** Reserves `length` bytes for rows of a user, given by the two halves of the id. Returns the offset. */
  place(high: number, low: number, length: number): number;
}

/** Writes the rows of a message that `readRows` has checked. */
export function expandRows(bytes: Buffer, sink: RowSink): void {
  for (const { at, posts, users } of blocksOf(bytes)) {
    const templates = rowsWithoutUser(bytes, at, posts);
    const usersAt = at + BLOCK_BYTES + 8 * posts;
    for (let user = usersAt; user < usersAt + 8 * users; user += 8) {
      const high = bytes.readUInt32BE(user);
      const low = bytes.readUInt32BE(user + 4);
      let to = sink.place(high, low, templates.length);
      const { rows } = sink;
      rows.set(templates, to);
      for (const end = to + templates.length; to < end; to += ROW_BYTES) {
        rows.writeUInt32BE(high, to + ROW_USER);
        rows.writeUInt32BE(low, to + ROW_USER + 4);
      }
    }
  }
}

/**
 * Writes the rows of a message that `readRows` has checked, one after the other. Returns their end. The rows
 * of a block differ in the user only: they are copied in doubling pieces, and then get their users.
 */
export function expandInOrder(bytes: Buffer, rows: Buffer, from: number): number {
  const view = new DataView(rows.buffer, rows.byteOffset, rows.byteLength);
  let to = from;
  for (const { at, posts, users } of blocksOf(bytes)) {
    if (users === 0) continue;
    const length = posts * ROW_BYTES;
    const end = to + users * length;
    writeWithoutUser(bytes, at, posts, rows, to);
    for (let filled = to + length; filled < end; filled += filled - to)
      rows.copyWithin(filled, to, Math.min(filled, to + end - filled));
    const usersAt = at + BLOCK_BYTES + 8 * posts;
    for (let user = usersAt; user < usersAt + 8 * users; user += 8) {
      const high = bytes.readUInt32BE(user);
      const low = bytes.readUInt32BE(user + 4);
      for (const next = to + length; to < next; to += ROW_BYTES) {
        view.setUint32(to + ROW_USER, high);
        view.setUint32(to + ROW_USER + 4, low);
      }
    }
  }
  return to;
}

/** Calls back for each user of each block, with the number of rows that the user gets. */
export function eachUser(bytes: Buffer, onUser: (high: number, low: number, rows: number) => void): void {
  for (const { at, posts, users } of blocksOf(bytes)) {
    const usersAt = at + BLOCK_BYTES + 8 * posts;
    for (let user = usersAt; user < usersAt + 8 * users; user += 8)
      onUser(bytes.readUInt32BE(user), bytes.readUInt32BE(user + 4), posts);
  }
}

/** Returns whether a message has this row. Throws BUS_MESSAGE_INVALID. */
export function hasRow(bytes: Buffer, userId: number, postId: number): boolean {
  readRows(bytes);
  for (const { at, posts, users } of blocksOf(bytes)) {
    const from = at + BLOCK_BYTES;
    const usersAt = from + 8 * posts;
    const includes = (id: number, start: number, end: number) =>
      readIds(bytes.subarray(start, end)).includes(id);
    if (includes(postId, from, usersAt) && includes(userId, usersAt, usersAt + 8 * users)) return true;
  }
  return false;
}

/** Returns one row of each post of a block, without the user's id. */
function rowsWithoutUser(bytes: Buffer, at: number, posts: number): Buffer {
  const rows = Buffer.alloc(posts * ROW_BYTES);
  writeWithoutUser(bytes, at, posts, rows, 0);
  return rows;
}

function writeWithoutUser(bytes: Buffer, at: number, posts: number, rows: Buffer, to: number): void {
  for (let post = 0; post < posts; post += 1) {
    const row = to + post * ROW_BYTES;
    rows.writeInt16BE(3, row);
    for (const field of [2, 14, 26]) rows.writeInt32BE(8, row + field);
    bytes.copy(rows, row + 18, at + BLOCK_BYTES + 8 * post, at + BLOCK_BYTES + 8 * post + 8);
    bytes.copy(rows, row + 30, at + 6, at + 14);
  }
}

/**
 * Returns the message without the rows whose author or reader is the user. undefined: no row is left.
 * Throws BUS_MESSAGE_INVALID.
 */
export function rowsWithout(bytes: Buffer, userId: number): Buffer | undefined {
  const header = readRows(bytes);
  const left = new RowsMessage();
  for (const { at, posts, users } of blocksOf(bytes)) {
    const authorId = readId(bytes, at + 6);
    if (authorId === userId) continue;
    const usersAt = at + BLOCK_BYTES + 8 * posts;
    const block = { authorId, postIds: readIds(bytes.subarray(at + BLOCK_BYTES, usersAt)) };
    for (const id of readIds(bytes.subarray(usersAt, usersAt + 8 * users)))
      if (id !== userId) left.add(Math.floor(id / 2 ** 32), id % 2 ** 32, block);
  }
  const { importId, committedAt, feedsOnly } = header;
  return left.rows > 0 ? left.seal({ importId, committedAt, ...(feedsOnly && { feedsOnly }) }) : undefined;
}
