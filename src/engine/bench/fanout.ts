import { setTimeout as sleep } from 'node:timers/promises';
import { fanOutDrained } from '../bus/drained.ts';
import type { Config } from '../config/config.ts';
import type { CheckedMessage } from '../fanout/copyBuffer.ts';
import { dispatch } from '../fanout/dispatcher.ts';
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
import { type Measured, measure, rawCopy, round, rowsOfBatches, rowsPerSecond } from './limit.ts';
import { describeMachine, type Machine } from './machine.ts';
import { type Mix, mixPairs } from './mixes.ts';
import { makePosts } from './posts.ts';
import { emptyTable, RAW_TABLE, settleAfterLoad } from './sql.ts';

/** As many connections as the writer has, elsewhere and on Citus. */
const RAW_CONNECTIONS = { plain: 2, distributed: 8 } as const;
/** Readers whose feeds are cached, and readers with an open socket, while the path runs. */
const CACHED_READERS = 1_000;
const SOCKETS = 50;
const PAGE = 20;
/** The end of a run is seen so precisely. */
const POLL_MS = 20;
const NO_CELEBRITIES = 2 ** 31 - 1;
/** Of the small posts that are made while one post goes to very many. */
const SMALL_FOLLOWERS = 8;
const SMALL_INTERVAL_MS = 10;

export interface BenchFanoutOptions {
  readonly mix: Mix;
  /** Measured runs, each followed by one of the raw limit. */
  readonly runs: number;
  readonly baseline: BaselineName;
  /** Posts with 8 followers are made all the while, and their latency is told apart. */
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
  /** Deliveries a second through the whole path to rows a second by COPY alone: of the run in the middle. */
  readonly ratio: number;
  /** Each pair of runs by itself, in order. */
  readonly runs: readonly {
    seconds: number;
    deliveriesPerSecond: number;
    rawCopyPerSecond: number;
    ratio: number;
  }[];
  readonly baseline: { name: string; deliveriesPerSecond: number; speedup: number } | null;
  /** From the dispatch of all posts at once to the commit of each row. */
  readonly latencyMs: LatencyMs;
  /** From the commit of a small post to that of its rows, while the others were under way. */
  readonly smallPosts: (LatencyMs & { posts: number }) | null;
  /** Frames that arrived on sockets, and feeds that were cached. */
  readonly pushed: number;
  readonly cachedFeeds: number;
  readonly machine: Machine;
}

/**
 * How near the whole path of a post comes to the limit of the disk and the database: a mix of posts, from their
 * dispatch to the commit of the last row, with feeds cached and sockets open, against COPY of the very same rows,
 * in the same batches and order, into an equal empty table. Runs alternate.
 */
export async function benchFanout(
  config: Config,
  version: string,
  options: BenchFanoutOptions,
): Promise<BenchFanoutResult> {
  const { mix, runs, signal } = options;
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
    const { cluster } = bench;
    const { db } = cluster;
    report('making posts');
    const { events, small } = await prepare(bench, mix, options.smallPosts ?? false);
    const sharding = await db.sharding();
    const connections = RAW_CONNECTIONS[sharding.distributed ? 'distributed' : 'plain'];
    let rows: Buffer[][] = [];
    const pairs: { path: Measured; raw: Measured }[] = [];
    let latencyMs: LatencyMs = { p50: 0, p95: 0, p99: 0 };
    let smallLatency: (LatencyMs & { posts: number }) | null = null;
    let pushed = 0;
    for (let run = 1; run <= runs; run += 1) {
      signal?.throwIfAborted();
      report(`run ${run} of ${runs}: the path`);
      await emptyTable(db, 'feed_items');
      const readers = await openReaders(bench, mix);
      batches = [];
      rows = [];
      const id = await cluster.ids.next();
      const smallRun = small && (await startSmallPosts(bench, small));
      let settled = false;
      let settling = Promise.resolve();
      const path = await measure(async () => {
        await dispatch(cluster, events, { importId: id, committedAt: Date.now() });
        settling = fanOutDrained(cluster, signal).finally(() => {
          settled = true;
        });
        settling.catch(() => {}); // Thrown where it is waited for.
        // Rows that are missing when all is settled will not come: the check below says so.
        const counted = async () => settled || (await runDeliveries(db, id)) >= mix.deliveries;
        await poll(counted, { firstMs: 10, everyMs: POLL_MS, signal });
        return runDeliveries(db, id);
      });
      await settling;
      if (smallRun) smallLatency = await smallRun.stop();
      pushed += await readers.close();
      latencyMs = await runLatency(db, id);
      await forgetRun(db, id);
      if (path.rows !== mix.deliveries)
        throw new FeedctlError('INTERNAL', `${path.rows} rows were written, expected ${mix.deliveries}`);
      report(`run ${run} of ${runs}: COPY alone`);
      await emptyTable(db, RAW_TABLE);
      rows = rowsOfBatches(batches, sharding);
      pairs.push({ path, raw: await measure(() => rawCopy(db.url, RAW_TABLE, rows, connections)) });
    }
    const middle = [...pairs].sort((a, b) => ratioOf(a) - ratioOf(b))[pairs.length >> 1]!;
    let baseline: BenchFanoutResult['baseline'] = null;
    if (options.baseline !== 'none') {
      report('the baseline');
      await emptyTable(db, RAW_TABLE);
      const measured =
        options.baseline === 'per-follower'
          ? await perFollowerMessages(config.brokerUrl!, db.url, RAW_TABLE, rows)
          : await oneInsertEach(db.url, RAW_TABLE, rows);
      baseline = {
        name: BASELINES[options.baseline],
        deliveriesPerSecond: Math.round(rowsPerSecond(measured)),
        speedup: round(rowsPerSecond(middle.path) / rowsPerSecond(measured)),
      };
    }
    return {
      mix: mix.name,
      posts: mix.posts.length,
      ...figures(middle),
      deliveries: middle.path.rows,
      runs: pairs.map(figures),
      baseline,
      latencyMs,
      smallPosts: smallLatency,
      pushed,
      cachedFeeds: Math.min(CACHED_READERS, mix.readers),
      machine: await describeMachine(bench),
    };
  } finally {
    await bench.stop();
  }
}

const ratioOf = ({ path, raw }: { path: Measured; raw: Measured }): number =>
  rowsPerSecond(path) / rowsPerSecond(raw);

const figures = (pair: { path: Measured; raw: Measured }) => ({
  seconds: round(pair.path.seconds),
  deliveriesPerSecond: Math.round(rowsPerSecond(pair.path)),
  rawCopyPerSecond: Math.round(rowsPerSecond(pair.raw)),
  ratio: round(ratioOf(pair)),
});

/** Users, authors with exactly so many followers each, and their posts, committed and not to be swept. */
async function prepare(
  bench: BenchCluster,
  mix: Mix,
  smallPosts: boolean,
): Promise<{ events: EventRef[]; small: number | undefined }> {
  const { cluster } = bench;
  await seedPairs(cluster, mixPairs(mix), { celebrityThreshold: NO_CELEBRITIES });
  let small: number | undefined;
  if (smallPosts) {
    const author = mix.authors.length + mix.readers + 1;
    const first = mix.authors.length + 1;
    const pairs = Array.from({ length: SMALL_FOLLOWERS }, (_, i): [number, number] => [first + i, author]);
    await seedPairs(cluster, once(pairs), { celebrityThreshold: NO_CELEBRITIES });
    small = author;
  }
  const events = await makePosts(bench, mix.posts);
  await settleAfterLoad(cluster.db);
  return { events, small };
}

async function* once<T>(value: T): AsyncGenerator<T> {
  yield value;
}

/** Feeds that are cached and sockets that are open while posts come: what readers cost is part of the path. */
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

/** Makes a post with 8 followers every 10 ms, until it is stopped; then says how long their rows took. */
async function startSmallPosts(bench: BenchCluster, author: number) {
  const { db, bus, ids } = bench.cluster;
  const run = await ids.next();
  let posts = 0;
  let stopped = false;
  const pending: Promise<void>[] = [];
  const make = async () => {
    const events = await makePosts(bench, [author]);
    posts += 1;
    await dispatch({ db, bus }, events, { importId: run, committedAt: Date.now() });
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
      const latency = await runLatency(db, run);
      await forgetRun(db, run);
      return { ...latency, posts };
    },
  };
}
