import { CopyRows, copyIn } from '../database/copy.ts';
import type { Database, Store } from '../database/database.ts';
import { readFeed } from '../feed/read/read.ts';
import type { Pair } from '../imports/followGraph.ts';
import { randomSource } from '../imports/generate.ts';
import { importedId } from '../model/ids.ts';
import { ROW_BYTES, rowPost, writeId } from '../model/messages.ts';
import { importPosts } from '../store/posts.ts';
import type { LatencyMs } from '../store/runs.ts';
import { runConcurrently } from '../util/parallel.ts';
import { percentiles } from './limit.ts';

/** Feed rows that a cluster holds before the measurement: those of posts of the last 30 days. */
export interface StoredFeeds {
  readonly rows: number;
  /** Rows of each reader. */
  readonly perUser: number;
}

/** Authors of the stored posts. Each reader follows one of them. */
const AUTHORS = 250;
const DAYS = 30;
const DAY_SECONDS = 86_400;
const USERS_A_BATCH = 32_768;
const CONNECTIONS = 4;
const PAIRS_A_CHUNK = 10_000;
const POSTS_A_BATCH = 4_000;
const COPY = 'copy feed_items (user_id, post_id, author_id) from stdin (format binary)';
/** Offset of the post's id in a row in COPY format. */
const ROW_POST = 18;

/** Readers with consecutive ids, after which no other user has an id. */
export interface StoredReaders {
  readonly first: number;
  readonly count: number;
}

/** Number of readers that hold the rows. */
export const storedReaders = ({ rows, perUser }: StoredFeeds): number => Math.ceil(rows / perUser);

/** The id after the last reader is left to the author of small posts. */
const authorAt = ({ first, count }: StoredReaders, rank: number): number => first + count + 1 + rank;
const authorOf = (readers: StoredReaders, reader: number): number => authorAt(readers, reader % AUTHORS);

/** Each reader follows the author of its stored rows. */
export async function* storedPairs(readers: StoredReaders): AsyncGenerator<Pair[]> {
  const end = readers.first + readers.count;
  for (let from = readers.first; from < end; from += PAIRS_A_CHUNK)
    yield Array.from({ length: Math.min(PAIRS_A_CHUNK, end - from) }, (_, n): Pair => {
      return [from + n, authorOf(readers, from + n)];
    });
}

interface FillOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((text: string) => void) | undefined;
}

/**
 * Fills the feeds of all readers with posts of the last 30 days, in the order of their time, as fan-out
 * would have. The posts exist, so that pages show them.
 */
export async function fillFeeds(
  db: Database,
  readers: StoredReaders,
  perUser: number,
  { signal, onProgress }: FillOptions = {},
): Promise<void> {
  const startSeconds = Math.floor(Date.now() / 1_000) - DAYS * DAY_SECONDS;
  const secondsOf = (nth: number) =>
    startSeconds + Math.floor(((nth + 1) * DAYS * DAY_SECONDS) / (perUser + 2));
  await makeStoredPosts(
    db,
    readers,
    Array.from({ length: perUser }, (_, nth) => secondsOf(nth)),
  );
  const ids = Array.from({ length: readers.count }, (_, n) => readers.first + n);
  const groups = (await db.sharding()).group(ids, (id) => id);
  const parts = groups.flatMap((group) =>
    Array.from({ length: Math.ceil(group.length / USERS_A_BATCH) }, (_, n) =>
      group.slice(n * USERS_A_BATCH, (n + 1) * USERS_A_BATCH),
    ),
  );
  const total = perUser * readers.count;
  let reported = 0;
  for (let nth = 0; nth < perUser; nth += 1) {
    signal?.throwIfAborted();
    await runConcurrently(parts, CONNECTIONS, async (users) => {
      signal?.throwIfAborted();
      const copy = new CopyRows(users.length * ROW_BYTES);
      for (const user of users)
        copy
          .row(3)
          .bigint(user)
          .bigint(importedId(secondsOf(nth), user % AUTHORS))
          .bigint(authorOf(readers, user));
      await db.withSession((session) => copyIn(session, COPY, [copy.bytes]));
    });
    const tenths = Math.floor((10 * (nth + 1)) / perUser);
    if (tenths > reported) onProgress?.(`${tenths * 10}% of ${total.toLocaleString('en-US')} rows stored`);
    reported = tenths;
  }
}

async function makeStoredPosts(
  db: Database,
  readers: StoredReaders,
  times: readonly number[],
): Promise<void> {
  const posts = times.flatMap((seconds) =>
    Array.from({ length: AUTHORS }, (_, rank) => {
      const id = importedId(seconds, rank);
      const createdAtMs = seconds * 1_000;
      return { id, authorId: authorAt(readers, rank), body: 'a stored post', createdAtMs, eventId: id };
    }),
  );
  // They count as dispatched: their rows are written here.
  const publish = async () => {};
  for (let from = 0; from < posts.length; from += POSTS_A_BATCH)
    await importPosts(db, posts.slice(from, from + POSTS_A_BATCH), { publish });
}

/**
 * Returns the rows with the ids of other posts, as new as these. So the same rows can be copied into the
 * store that has them.
 */
export function withOtherPosts(batches: readonly (readonly Buffer[])[]): Buffer[][] {
  let [least, most] = [Number.POSITIVE_INFINITY, 0];
  for (const rows of batches.flat())
    for (let at = 0; at < rows.length; at += ROW_BYTES) {
      const post = rowPost(rows, at);
      least = Math.min(least, post);
      most = Math.max(most, post);
    }
  return batches.map((parts) =>
    parts.map((rows) => {
      const others = Buffer.from(rows);
      for (let at = 0; at < others.length; at += ROW_BYTES)
        writeId(others, at + ROW_POST, rowPost(others, at) + most - least + 1);
      return others;
    }),
  );
}

/** Reads first pages of random readers from the table, and returns their times in milliseconds. */
export async function pageTimes(
  db: Store,
  { first, count }: StoredReaders,
  { pages, limit }: { pages: number; limit: number },
): Promise<LatencyMs> {
  const random = randomSource(5);
  const ms: number[] = [];
  for (let n = 0; n < pages; n += 1) {
    const reader = first + Math.floor(random() * count);
    const startedAt = performance.now();
    await readFeed(db, reader, { limit });
    ms.push(performance.now() - startedAt);
  }
  return percentiles(ms);
}
