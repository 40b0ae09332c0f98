import type { Config } from '../config/config.ts';
import type { Store } from '../database/database.ts';
import { readFeed } from '../feed/read/read.ts';
import { rebuild } from '../feed/rebuild/rebuild.ts';
import { NO_CELEBRITIES, type Pair, seedPairs } from '../imports/followGraph.ts';
import { randomSource } from '../imports/generate.ts';
import { FeedctlError } from '../model/errors.ts';
import { createPost } from '../social/posts.ts';
import type { LatencyMs } from '../store/runs.ts';
import { runConcurrently } from '../util/parallel.ts';
import { type BenchCluster, openBenchCluster } from './benchCluster.ts';
import { percentiles, thousandths } from './limit.ts';
import { describeMachine, type Machine } from './machine.ts';
import { makePosts } from './posts.ts';
import { joinedPage, settleAfterLoad } from './sql.ts';
import { fillFeeds, pageTimes, type StoredFeeds, storedPairs, storedReaders } from './stored.ts';

const PAGE = 20;
/** Celebrities, celebrities that a fan follows, and posts of each celebrity. */
const CELEBRITIES = 20;
const CELEBRITIES_FOLLOWED = 10;
const CELEBRITY_POSTS = 50;
/** Reads of one kind before the next kind's turn. */
const READS_A_TURN = 20;
const MIX_CONCURRENCY = 8;

export interface BenchReadOptions {
  /** Readers without celebrities, and as many fans of celebrities. */
  readonly readers: number;
  readonly authors: number;
  readonly followees: number;
  /** Posts of each author. */
  readonly posts: number;
  /** Measured pages of each kind. */
  readonly reads: number;
  /** Pages of the mix: readers by Zipf's law, with posts in between. */
  readonly mix: number;
  /** Pages of the mix for each post. */
  readonly readsAPost: number;
  /** Feed rows of other users, which the table holds too. */
  readonly stored?: StoredFeeds | undefined;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

interface Measured extends LatencyMs {
  readonly reads: number;
  /** SQL statements a page. */
  readonly queriesPerRead: number;
}

export interface BenchReadResult {
  readonly page: number;
  readonly kinds: {
    /** The newest posts of all followed authors, by a join of follows and posts. */
    readonly join: Measured;
    readonly uncached: Measured;
    readonly cached: Measured;
    /** Readers who follow celebrities. */
    readonly celebrityUncached: Measured;
    readonly celebrityCached: Measured;
    /** The first read of a feed that is not cached. */
    readonly cold: Measured;
  };
  /** Pages of the users with stored rows, from the table. */
  readonly stored: (StoredFeeds & { readonly pageMs: LatencyMs }) | null;
  /** Median of the join over median of the cached page. */
  readonly speedup: number;
  readonly celebritySpeedup: number;
  readonly mix: Measured & {
    readonly posts: number;
    readonly hits: number;
    readonly misses: number;
    readonly postHits: number;
    readonly postMisses: number;
    /** Statements with the cache, including checks of the epoch. */
    readonly queries: number;
    readonly queriesUncached: number;
    readonly saved: number;
    readonly readsPerSecond: number;
  };
  readonly machine: Machine;
}

/** Counts the statements of reads. */
class CountedStore implements Store {
  readonly #db: Store;
  queries = 0;

  constructor(db: Store) {
    this.#db = db;
  }

  sharding(): ReturnType<Store['sharding']> {
    return this.#db.sharding();
  }

  query: Store['query'] = (text, values, name) => {
    this.queries += 1;
    return this.#db.query(text, values, name);
  };
}

/**
 * Reads a page of 20 posts in turns by a join of follows and posts, from the feed's table, and from
 * the cache. Then reads as a mix of users, some far more often than others, while posts are made.
 * Uses the caller's database like `bench fanout`.
 */
export async function benchRead(
  config: Config,
  version: string,
  options: BenchReadOptions,
): Promise<BenchReadResult> {
  const report = options.onProgress ?? (() => {});
  const bench = await openBenchCluster(config, {
    version,
    ...(options.signal && { signal: options.signal }),
    onBatch: () => {},
  });
  try {
    report('making feeds');
    const { plain, fans, authors } = await prepare(bench, options);
    const stored = options.stored && (await storeOthers(bench, options.stored, options));
    report('reading pages');
    const { db } = bench.cluster;
    const { cache } = bench;
    const query = { limit: PAGE };
    for (const reader of [...plain, ...fans]) {
      options.signal?.throwIfAborted();
      await readFeed(db, reader, query, cache);
    }
    const random = randomSource(3);
    const pick = (readers: readonly number[]) => () => readers[Math.floor(random() * readers.length)]!;
    const [reader, fan] = [pick(plain), pick(fans)];
    const kinds = {
      join: new Kind(db, (counted) => joinedPage(counted, reader(), PAGE)),
      uncached: new Kind(db, (counted) => readFeed(counted, reader(), query)),
      cached: new Kind(db, (counted) => readFeed(counted, reader(), query, cache)),
      celebrityUncached: new Kind(db, (counted) => readFeed(counted, fan(), query)),
      celebrityCached: new Kind(db, (counted) => readFeed(counted, fan(), query, cache)),
    };
    for (let done = 0; done < options.reads; done += READS_A_TURN) {
      options.signal?.throwIfAborted();
      for (const kind of Object.values(kinds)) await kind.read(Math.min(READS_A_TURN, options.reads - done));
    }
    const cold = new Kind(db, (counted, reader) => readFeed(counted, reader, query, cache));
    for (const reader of plain.slice(0, options.reads)) {
      options.signal?.throwIfAborted();
      await cache.changing(db, [reader]);
      await cache.forget([reader]);
      await cold.read(1, reader);
    }
    report('reading a mix');
    const mix = await readMix(bench, [...plain, ...fans], authors, options);
    const result = {
      join: kinds.join.result(),
      uncached: kinds.uncached.result(),
      cached: kinds.cached.result(),
      celebrityUncached: kinds.celebrityUncached.result(),
      celebrityCached: kinds.celebrityCached.result(),
      cold: cold.result(),
    };
    return {
      page: PAGE,
      kinds: result,
      stored: stored ?? null,
      speedup: thousandths(result.join.p50 / result.cached.p50),
      celebritySpeedup: thousandths(result.join.p50 / result.celebrityCached.p50),
      mix,
      machine: await describeMachine(bench),
    };
  } finally {
    await bench.stop();
  }
}

/** Fills the feeds of other users, who have the next ids, and measures their pages. */
async function storeOthers(
  { cluster }: BenchCluster,
  stored: StoredFeeds,
  { readers, authors, reads, signal, onProgress }: BenchReadOptions,
): Promise<BenchReadResult['stored']> {
  const others = { first: authors + CELEBRITIES + 2 * readers + 1, count: storedReaders(stored) };
  await seedPairs(cluster, storedPairs(others), {
    celebrityThreshold: NO_CELEBRITIES,
    ...(signal && { signal }),
  });
  await fillFeeds(cluster.db, others, stored.perUser, { signal, onProgress });
  await settleAfterLoad(cluster.db);
  const size = { pages: reads, limit: PAGE };
  return { ...stored, pageMs: await pageTimes(cluster.db, others, size) };
}

/** One way to read, with the times of its reads. */
class Kind {
  readonly #counted: CountedStore;
  readonly #work: (db: Store, reader: number) => Promise<unknown>;
  readonly #ms: number[] = [];

  constructor(db: Store, work: (db: Store, reader: number) => Promise<unknown>) {
    this.#counted = new CountedStore(db);
    this.#work = work;
  }

  async read(times: number, reader = 0): Promise<void> {
    for (let i = 0; i < times; i += 1) {
      const startedAt = performance.now();
      await this.#work(this.#counted, reader);
      this.#ms.push(performance.now() - startedAt);
    }
  }

  result(): Measured {
    return { ...percentiles(this.#ms), ...perRead(this.#counted.queries, this.#ms.length) };
  }
}

const perRead = (queries: number, reads: number) => ({ reads, queriesPerRead: thousandths(queries / reads) });

/** Reads as users by Zipf's law with exponent 1, from a cold cache, while posts are made. */
async function readMix(
  { cluster, cache }: BenchCluster,
  readers: readonly number[],
  authors: number,
  options: BenchReadOptions,
): Promise<BenchReadResult['mix']> {
  const random = randomSource(4);
  const order = readers.map((reader) => ({ reader, key: random() })).toSorted((a, b) => a.key - b.key);
  // The share of the first k of n by 1/rank is about ln k / ln n.
  const next = () => order[Math.min(order.length - 1, Math.floor(order.length ** random()) - 1)]!.reader;
  const sequence = Array.from({ length: options.mix }, next);
  await cluster.db.transaction((session) => cache.resetting(session));
  await cluster.db.transaction((session) => cache.changing(session, readers));
  const before = cache.stats();
  const counted = new CountedStore(cluster.db);
  const uncached = new CountedStore(cluster.db);
  const ms: number[] = [];
  let posts = 0;
  const startedAt = performance.now();
  await runConcurrently(sequence, MIX_CONCURRENCY, async (reader) => {
    options.signal?.throwIfAborted();
    const readAt = performance.now();
    await readFeed(counted, reader, { limit: PAGE }, cache);
    ms.push(performance.now() - readAt);
    if (ms.length % options.readsAPost === 0) {
      posts += 1;
      await createPost(cluster, 1 + Math.floor(random() * authors), 'a post of the benchmark');
    }
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const after = cache.stats();
  await runConcurrently(sequence, MIX_CONCURRENCY, (reader) => {
    options.signal?.throwIfAborted();
    return readFeed(uncached, reader, { limit: PAGE });
  });
  const queries = counted.queries + after.checks - before.checks;
  return {
    ...percentiles(ms),
    ...perRead(queries, ms.length),
    posts,
    hits: after.hits - before.hits,
    misses: after.misses - before.misses,
    postHits: after.postHits - before.postHits,
    postMisses: after.postMisses - before.postMisses,
    queries,
    queriesUncached: uncached.queries,
    saved: thousandths(1 - queries / uncached.queries),
    readsPerSecond: Math.round(ms.length / seconds),
  };
}

/** Makes users: authors from id 1 on, then celebrities, readers, and fans, who follow celebrities too. */
export async function prepare(
  bench: BenchCluster,
  options: Pick<BenchReadOptions, 'readers' | 'authors' | 'followees' | 'posts' | 'signal'>,
): Promise<{ plain: number[]; fans: number[]; authors: number }> {
  const { cluster } = bench;
  const { authors, readers, followees, signal } = options;
  const cancel = signal && { signal };
  if (followees > authors)
    throw new FeedctlError(
      'USAGE',
      `a reader cannot follow ${followees} of ${authors} authors: pass fewer --followees`,
    );
  const random = randomSource(1);
  const idsFrom = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
  const celebrities = idsFrom(authors + 1, CELEBRITIES);
  const plain = idsFrom(authors + CELEBRITIES + 1, readers);
  const fans = idsFrom(authors + CELEBRITIES + readers + 1, readers);
  async function* pairs(): AsyncGenerator<Pair[]> {
    for (const reader of [...plain, ...fans]) {
      // Consecutive authors of a ring: none is chosen twice.
      const first = Math.floor(random() * authors);
      const chosen = idsFrom(first, followees).map((at): Pair => [reader, 1 + (at % authors)]);
      yield chosen;
    }
  }
  await seedPairs(cluster, pairs(), { celebrityThreshold: NO_CELEBRITIES, ...cancel });
  async function* celebrityPairs(): AsyncGenerator<Pair[]> {
    for (const fan of fans) {
      const first = Math.floor(random() * CELEBRITIES);
      yield idsFrom(first, CELEBRITIES_FOLLOWED).map((at): Pair => [fan, celebrities[at % CELEBRITIES]!]);
    }
  }
  // Threshold 0: each of them is a celebrity, with any number of followers.
  await seedPairs(cluster, celebrityPairs(), { celebrityThreshold: 0, ...cancel });
  const posted = Array.from({ length: authors * options.posts }, (_, i) => 1 + (i % authors));
  for (let i = 0; i < CELEBRITIES * CELEBRITY_POSTS; i += 1)
    posted.splice(Math.floor(random() * posted.length), 0, celebrities[i % CELEBRITIES]!);
  await makePosts(bench, posted);
  await settleAfterLoad(cluster.db);
  await rebuild(cluster.db, undefined, { changes: cluster.changes, ...cancel });
  await cluster.db.query('vacuum analyze feed_items');
  return { plain, fans, authors };
}
