import { setTimeout as sleep } from 'node:timers/promises';
import { fanOutDrained } from '../bus/drained.ts';
import type { Config } from '../config/config.ts';
import type { Database } from '../database/database.ts';
import type { CheckedMessage } from '../fanout/copyBuffer.ts';
import { dispatch, dispatchWithin } from '../fanout/dispatcher.ts';
import { readFeed } from '../feed/read/read.ts';
import { signToken } from '../gateway/tokens.ts';
import { seedPairs } from '../imports/followGraph.ts';
import { followFeed } from '../live/client.ts';
import { FeedctlError } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import { forgetRun, type LatencyMs, runDeliveries, runLatency } from '../store/runs.ts';
import { poll } from '../util/poll.ts';
import { BASELINES, type BaselineName, oneInsertEach, perFollowerMessages } from './baselines.ts';
import { type BenchCluster, openBenchCluster } from './benchCluster.ts';
import {
  type Measured,
  measure,
  middleRun,
  rawCopy,
  rowsOfBatches,
  rowsPerSecond,
  thousandths,
} from './limit.ts';
import { describeMachine, type Machine } from './machine.ts';
import { type Mix, mixPairs } from './mixes.ts';
import { makePosts } from './posts.ts';
import { emptyTable, RAW_TABLE, settleAfterLoad } from './sql.ts';

/** Connections of the writer, on one PostgreSQL server and on Citus. */
const RAW_CONNECTIONS = { plain: 2, distributed: 8 } as const;
/** Readers with a cached feed, and readers with an open socket, while the path runs. */
const CACHED_READERS = 1_000;
const SOCKETS = 50;
const PAGE = 20;
/** The end of a run is known to within this time. */
const POLL_MS = 20;
const NO_CELEBRITIES = 2 ** 31 - 1;
/** Small posts are made while posts with many followers are fanned out. */
const SMALL_FOLLOWERS = 8;
const SMALL_INTERVAL_MS = 10;

export interface BenchFanoutOptions {
  readonly mix: Mix;
  /** Measured runs of the path, each followed by one of COPY. */
  readonly runs: number;
  readonly baseline: BaselineName;
  /** Makes posts with 8 followers meanwhile, and reports their latency separately. */
  readonly smallPosts?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

export interface BenchFanoutResult {
  readonly mix: string;
  readonly posts: number;
  readonly deliveries: number;
  readonly seconds: number;
  readonly deliveriesPerSecond: number;
  readonly rawCopyPerSecond: number;
  /** Deliveries a second through the whole path over rows a second by COPY, of the median run. */
  readonly ratio: number;
  /** All runs, in order. */
  readonly runs: readonly {
    seconds: number;
    deliveriesPerSecond: number;
    rawCopyPerSecond: number;
    ratio: number;
  }[];
  readonly baseline: { name: string; deliveriesPerSecond: number; speedup: number } | null;
  /** From the dispatch of all posts to the commit of each row. */
  readonly latencyMs: LatencyMs;
  /** From the commit of a small post to the commit of its rows, during the fan-out of the others. */
  readonly smallPosts: (LatencyMs & { posts: number }) | null;
  /** Frames that arrived on sockets. */
  readonly pushed: number;
  readonly cachedFeeds: number;
  readonly machine: Machine;
}

/**
 * Compares the whole path of posts with the limit of the disk and the database. The path: a mix of
 * posts, from their dispatch to the commit of the last row, with cached feeds and open sockets. The
 * limit: COPY of the same rows, in the same batches and order, into an equal empty table. Runs of
 * both alternate.
 */
export async function benchFanout(
  config: Config,
  version: string,
  options: BenchFanoutOptions,
): Promise<BenchFanoutResult> {
  const { mix, signal } = options;
  const report = options.onProgress ?? (() => {});
  if (options.baseline === 'per-follower' && !config.brokerUrl)
    throw new FeedctlError('USAGE', 'the baseline per-follower needs a broker: pass --broker-url');
  let batches: CheckedMessage[][] = [];
  const bench = await openBenchCluster(config, {
    version,
    ...(signal && { signal }),
    onBatch: (messages) => batches.push(messages.map(({ body, count }) => ({ body, count }))),
  });
  try {
    const { db } = bench.cluster;
    report('making posts');
    const prepared = await prepare(bench, mix, options.smallPosts ?? false);
    const sharding = await db.sharding();
    const connections = RAW_CONNECTIONS[sharding.distributed ? 'distributed' : 'plain'];
    const runs: FanoutRun[] = [];
    let rows: Buffer[][] = [];
    for (let n = 1; n <= options.runs; n += 1) {
      signal?.throwIfAborted();
      report(`run ${n} of ${options.runs}: the path`);
      batches = [];
      const pathRun = await measurePath(bench, mix, prepared, signal);
      report(`run ${n} of ${options.runs}: COPY alone`);
      await emptyTable(db, RAW_TABLE);
      rows = rowsOfBatches(batches, sharding);
      const raw = await measure(() => rawCopy(db.url, RAW_TABLE, rows, connections));
      runs.push({ ...pathRun, raw });
    }
    const middle = middleRun(runs, ratioOf);
    if (options.baseline !== 'none') report('the baseline');
    const last = runs.at(-1);
    return {
      mix: mix.name,
      posts: mix.posts.length,
      ...rates(middle),
      deliveries: middle.path.rows,
      runs: runs.map(rates),
      baseline: await measureBaseline(options.baseline, config, db, rows, middle.path),
      latencyMs: last?.latencyMs ?? { p50: 0, p95: 0, p99: 0 },
      smallPosts: last?.smallPosts ?? null,
      pushed: runs.reduce((sum, run) => sum + run.pushed, 0),
      cachedFeeds: Math.min(CACHED_READERS, mix.readers),
      machine: await describeMachine(bench),
    };
  } finally {
    await bench.stop();
  }
}

interface Prepared {
  /** Events of the posts of the mix. */
  readonly events: EventRef[];
  /** Author of the small posts. */
  readonly smallAuthor: number | undefined;
}

interface PathRun {
  readonly path: Measured;
  readonly latencyMs: LatencyMs;
  readonly smallPosts: (LatencyMs & { posts: number }) | null;
  readonly pushed: number;
}

interface FanoutRun extends PathRun {
  readonly raw: Measured;
}

/** Dispatches all posts and waits for the commit of their rows. Throws INTERNAL if rows are missing. */
async function measurePath(
  bench: BenchCluster,
  mix: Mix,
  { events, smallAuthor }: Prepared,
  signal: AbortSignal | undefined,
): Promise<PathRun> {
  const { cluster } = bench;
  const { db } = cluster;
  await emptyTable(db, 'feed_items');
  const readers = await openReaders(bench, mix);
  const importId = await cluster.ids.next();
  const small = smallAuthor === undefined ? undefined : await startSmallPosts(bench, smallAuthor);
  let drained = false;
  let draining = Promise.resolve();
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
  await draining;
  const smallPosts = small ? await small.stop() : null;
  const pushed = await readers.close();
  const latencyMs = await runLatency(db, importId);
  await forgetRun(db, importId);
  if (path.rows !== mix.deliveries)
    throw new FeedctlError('INTERNAL', `${path.rows} rows were written, expected ${mix.deliveries}`);
  return { path, latencyMs, smallPosts, pushed };
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

async function measureBaseline(
  baseline: BaselineName,
  { brokerUrl }: Config,
  db: Database,
  rows: readonly Buffer[][],
  path: Measured,
): Promise<BenchFanoutResult['baseline']> {
  if (baseline === 'none') return null;
  await emptyTable(db, RAW_TABLE);
  const measured =
    baseline === 'per-follower'
      ? await perFollowerMessages(brokerUrl!, db.url, RAW_TABLE, rows)
      : await oneInsertEach(db.url, RAW_TABLE, rows);
  return {
    name: BASELINES[baseline],
    deliveriesPerSecond: Math.round(rowsPerSecond(measured)),
    speedup: thousandths(rowsPerSecond(path) / rowsPerSecond(measured)),
  };
}

const ratioOf = ({ path, raw }: FanoutRun): number => rowsPerSecond(path) / rowsPerSecond(raw);

const rates = (run: FanoutRun) => ({
  seconds: thousandths(run.path.seconds),
  deliveriesPerSecond: Math.round(rowsPerSecond(run.path)),
  rawCopyPerSecond: Math.round(rowsPerSecond(run.raw)),
  ratio: thousandths(ratioOf(run)),
});

/** Makes the users of the mix, and posts that are committed but not dispatched. */
async function prepare(bench: BenchCluster, mix: Mix, smallPosts: boolean): Promise<Prepared> {
  const { cluster } = bench;
  await seedPairs(cluster, mixPairs(mix), { celebrityThreshold: NO_CELEBRITIES });
  let smallAuthor: number | undefined;
  if (smallPosts) {
    const author = mix.authors.length + mix.readers + 1;
    const first = mix.authors.length + 1;
    const pairs = Array.from({ length: SMALL_FOLLOWERS }, (_, i): [number, number] => [first + i, author]);
    await seedPairs(cluster, once(pairs), { celebrityThreshold: NO_CELEBRITIES });
    smallAuthor = author;
  }
  const events = await makePosts(bench, mix.posts);
  await settleAfterLoad(cluster.db);
  return { events, smallAuthor };
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
