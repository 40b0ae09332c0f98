import { setTimeout as sleep } from 'node:timers/promises';
import { fanOutDrained } from '../bus/drained.ts';
import type { Config } from '../config/config.ts';
import type { CheckedMessage } from '../fanout/copyBuffer.ts';
import { dispatch, dispatchWithin } from '../fanout/dispatcher.ts';
import { readFeed } from '../feed/read/read.ts';
import { signToken } from '../gateway/tokens.ts';
import { NO_CELEBRITIES, seedPairs } from '../imports/followGraph.ts';
import { followFeed } from '../live/client.ts';
import { FeedctlError } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import { forgetRun, type LatencyMs, runDeliveries, runLatency } from '../store/runs.ts';
import { poll } from '../util/poll.ts';
import { type BenchCluster, openBenchCluster } from './benchCluster.ts';
import { type Measured, measure } from './limit.ts';
import { type Mix, mixPairs } from './mixes.ts';
import { makePosts } from './posts.ts';
import { checkpoint, emptyTable, settleAfterLoad, walBytes } from './sql.ts';
import { fillFeeds, type StoredFeeds, type StoredReaders, storedPairs } from './stored.ts';

/** Readers with a cached feed, and readers with an open socket, while the path runs. */
export const CACHED_READERS = 1_000;
const SOCKETS = 50;
const PAGE = 20;
/** The end of a run is known to within this time. */
const POLL_MS = 20;
/** Small posts are made while posts with many followers are fanned out. */
const SMALL_FOLLOWERS = 8;
const SMALL_INTERVAL_MS = 10;

export interface StageOptions {
  readonly mix: Mix;
  /** Rows that the cluster holds before the first run. They stay, and so do the rows of each run. */
  readonly stored?: StoredFeeds | undefined;
  /** Makes posts with 8 followers meanwhile, and reports their latency separately. */
  readonly smallPosts?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((text: string) => void) | undefined;
}

export interface PathRun {
  readonly path: Measured;
  /** Bytes of WAL that the coordinator wrote meanwhile. */
  readonly walBytes: number;
  readonly latencyMs: LatencyMs;
  readonly smallPosts: (LatencyMs & { posts: number }) | null;
  /** Frames that arrived on sockets. */
  readonly pushed: number;
  /** Messages of each batch of rows, in the order of their writing. */
  readonly batches: readonly CheckedMessage[][];
}

/** Users of a mix who are no authors. */
export const readersOf = ({ authors, readers }: Mix): StoredReaders => ({
  first: authors.length + 1,
  count: readers,
});

/** A cluster with the users of a mix, in which the path of its posts is measured. */
export class Stage {
  readonly bench: BenchCluster;
  readonly #options: StageOptions;
  readonly #batches: { current: CheckedMessage[][] };
  #smallAuthor: number | undefined;
  /** Events of the posts of the mix, which every run without stored rows dispatches. */
  #events: EventRef[] = [];

  private constructor(bench: BenchCluster, options: StageOptions, batches: { current: CheckedMessage[][] }) {
    this.bench = bench;
    this.#options = options;
    this.#batches = batches;
  }

  /** Throws as `openBenchCluster`. */
  static async open(config: Config, version: string, options: StageOptions): Promise<Stage> {
    const batches: { current: CheckedMessage[][] } = { current: [] };
    const bench = await openBenchCluster(config, {
      version,
      ...(options.signal && { signal: options.signal }),
      onBatch: (messages) => batches.current.push(messages.map(({ body, count }) => ({ body, count }))),
    });
    const stage = new Stage(bench, options, batches);
    try {
      await stage.#prepare();
      return stage;
    } catch (error) {
      await bench.stop();
      throw error;
    }
  }

  stop(): Promise<void> {
    return this.bench.stop();
  }

  /** Makes the users of the mix, and posts that are committed but not dispatched. */
  async #prepare(): Promise<void> {
    const { cluster } = this.bench;
    const { mix, stored, smallPosts, signal, onProgress } = this.#options;
    const none = { celebrityThreshold: NO_CELEBRITIES, ...(signal && { signal }) };
    await seedPairs(cluster, mixPairs(mix), none);
    if (smallPosts) {
      const author = mix.authors.length + mix.readers + 1;
      const first = mix.authors.length + 1;
      const pairs = Array.from({ length: SMALL_FOLLOWERS }, (_, i): [number, number] => [first + i, author]);
      await seedPairs(cluster, once(pairs), none);
      this.#smallAuthor = author;
    }
    if (stored) {
      const readers = readersOf(mix);
      await seedPairs(cluster, storedPairs(readers), none);
      await fillFeeds(cluster.db, readers, stored.perUser, { signal, onProgress });
    } else {
      this.#events = await makePosts(this.bench, mix.posts);
    }
    await settleAfterLoad(cluster.db);
  }

  /** Dispatches all posts and waits for the commit of their rows. Throws INTERNAL if rows are missing. */
  async measurePath(): Promise<PathRun> {
    const { cluster } = this.bench;
    const { db } = cluster;
    const { mix, stored, signal } = this.#options;
    const events = stored ? await makePosts(this.bench, mix.posts) : this.#events;
    if (stored) await checkpoint(db);
    else await emptyTable(db, 'feed_items');
    this.#batches.current = [];
    const readers = await openReaders(this.bench, mix);
    const importId = await cluster.ids.next();
    const small = this.#smallAuthor && (await startSmallPosts(this.bench, this.#smallAuthor));
    let drained = false;
    let draining = Promise.resolve();
    const walBefore = await walBytes(db);
    const path = await measure(async () => {
      await publishCommitted(cluster, events, importId);
      draining = fanOutDrained(cluster, signal).finally(() => {
        drained = true;
      });
      draining.catch(() => {}); // Thrown by the await below.
      // Rows that are missing once the queues are drained do not arrive any more.
      const counted = async () => drained || (await runDeliveries(db, importId)) >= mix.deliveries;
      await poll(counted, { everyMs: POLL_MS, signal });
      return runDeliveries(db, importId);
    });
    const wal = (await walBytes(db)) - walBefore;
    await draining;
    const smallPosts = small ? await small.stop() : null;
    const pushed = await readers.close();
    const latencyMs = await runLatency(db, importId);
    await forgetRun(db, importId);
    if (path.rows !== mix.deliveries)
      throw new FeedctlError('INTERNAL', `${path.rows} rows were written, expected ${mix.deliveries}`);
    return { path, walBytes: wal, latencyMs, smallPosts, pushed, batches: this.#batches.current };
  }
}

/** Publishes committed events at the price of the path: a bus in the database needs no mark for an event. */
async function publishCommitted(
  cluster: BenchCluster['cluster'],
  events: readonly EventRef[],
  importId: number,
): Promise<void> {
  const publish = await dispatchWithin(cluster, { importId });
  if (publish) await cluster.db.transaction((session) => publish(session, events));
  else await dispatch(cluster, events, { importId, committedAt: Date.now() });
}

async function* once<T>(value: T): AsyncGenerator<T> {
  yield value;
}

/** Caches feeds and opens sockets, whose cost is part of the path. `close` returns the arrived frames. */
async function openReaders(bench: BenchCluster, mix: Mix): Promise<{ close(): Promise<number> }> {
  const { cluster, cache, gateway } = bench;
  const first = mix.authors.length + 1;
  const readers = Array.from({ length: Math.min(CACHED_READERS, mix.readers) }, (_, i) => first + i);
  await cache.changing(cluster.db, readers);
  await cache.forget(readers);
  for (const reader of readers) await readFeed(cluster.db, reader, { limit: PAGE }, cache);
  let frames = 0;
  const sockets = await Promise.all(
    readers.slice(0, SOCKETS).map(async (reader) =>
      followFeed(gateway.url, await signToken(cluster.db, reader), () => {
        frames += 1;
      }),
    ),
  );
  return {
    async close() {
      for (const socket of sockets) socket.close();
      await Promise.all(sockets.map((socket) => socket.closed));
      return frames;
    },
  };
}

/** Makes a post with 8 followers every 10 ms. `stop` returns the latency of their rows. */
async function startSmallPosts(bench: BenchCluster, author: number) {
  const { db, ids } = bench.cluster;
  const importId = await ids.next();
  const publish = await dispatchWithin(bench.cluster, { importId });
  let posts = 0;
  let stopped = false;
  const pending: Promise<void>[] = [];
  const make = async () => {
    const events = await makePosts(bench, [author], publish);
    posts += 1;
    if (!publish) await dispatch(bench.cluster, events, { importId, committedAt: Date.now() });
  };
  const running = (async () => {
    while (!stopped) {
      pending.push(make());
      await sleep(SMALL_INTERVAL_MS);
    }
    await Promise.all(pending);
  })();
  return {
    async stop() {
      stopped = true;
      await running;
      await fanOutDrained(bench.cluster);
      const latency = await runLatency(db, importId);
      await forgetRun(db, importId);
      return { ...latency, posts };
    },
  };
}
