import { setTimeout as sleep } from 'node:timers/promises';
import { fanOutDrained } from '../bus/drained.ts';
import type { Config } from '../config/config.ts';
import { dispatch } from '../fanout/dispatcher.ts';
import { rebuildMany } from '../feed/rebuild/operation.ts';
import type { RebuildResult } from '../feed/rebuild/rebuild.ts';
import { verify } from '../feed/verify/verify.ts';
import { replay } from '../imports/activity.ts';
import { seedGraph } from '../imports/followGraph.ts';
import { DEFAULT_CELEBRITY_THRESHOLD } from '../model/celebrity.ts';
import { FeedctlError } from '../model/errors.ts';
import { forgetRun, type LatencyMs, runLatency } from '../store/runs.ts';
import { type BenchCluster, openBenchCluster } from './benchCluster.ts';
import { type Measured, measure, round, rowsPerSecond } from './limit.ts';
import { describeMachine, type Machine } from './machine.ts';
import { makePosts } from './posts.ts';
import { copyFeeds, emptyTable, pushedAuthors, RAW_TABLE, settleAfterLoad } from './sql.ts';

/** Whose posts are made while feeds are rebuilt: in turns, so that small and large ones come. */
const LIVE_AUTHORS = 200;
const LIVE_FOLLOWERS = 100;

export interface BenchRebuildOptions {
  /** SNAP edge lists, and an activity file. */
  readonly graph: readonly string[];
  readonly activity: string;
  readonly runs: number;
  /** How long live posts are made without a rebuild. */
  readonly seconds: number;
  /** Live posts a second. */
  readonly rate: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

type Live = LatencyMs & { readonly posts: number; readonly seconds: number };

interface Run {
  /** All rows, of feeds that had lost them. */
  readonly rebuildRowsPerSecond: number;
  readonly plainRowsPerSecond: number;
  readonly ratio: number;
  /** Feeds a second where nothing is wrong. */
  readonly soundFeedsPerSecond: number;
  /** From the commit of a post to that of its rows: alone, and while all feeds that lost their rows are rebuilt. */
  readonly live: { readonly alone: Live; readonly during: Live; readonly p99Ratio: number };
}

export interface BenchRebuildResult extends Run {
  readonly users: number;
  readonly items: number;
  /** Each run; the figures above are those of the run whose ratio is in the middle. */
  readonly runs: readonly Run[];
  readonly verify: { readonly checked: number; readonly mismatched: number };
  readonly machine: Machine;
}

/**
 * How fast all feeds are rebuilt that have lost their rows, against one plain `insert ... select` of the very same rows into an
 * equal empty table, and what that does to live fan-out. Runs alternate.
 */
export async function benchRebuild(
  config: Config,
  version: string,
  options: BenchRebuildOptions,
): Promise<BenchRebuildResult> {
  const { graph, activity, signal } = options;
  const report = options.onProgress ?? (() => {});
  const cancel = signal && { signal };
  const bench = await openBenchCluster(config, { version, ...cancel, onBatch: () => {} });
  try {
    const { cluster } = bench;
    const { db } = cluster;
    report('loading');
    await seedGraph(cluster, graph, { celebrityThreshold: DEFAULT_CELEBRITY_THRESHOLD, ...cancel });
    await replay(cluster, activity, { ...cancel });
    // Feeds are trimmed now and then: some are longer than rebuilt ones.
    await rebuildMany(cluster, { ...cancel });
    await settleAfterLoad(db);
    const runs: Run[] = [];
    let whole: RebuildResult | undefined;
    for (let n = 1; n <= options.runs; n += 1) {
      signal?.throwIfAborted();
      const step = (text: string) => report(`run ${n} of ${options.runs}: ${text}`);
      step('one insert ... select of all rows');
      await emptyTable(db, RAW_TABLE);
      const plain = await measure(() => copyFeeds(db));
      step('rebuilding feeds that have lost their rows');
      await emptyTable(db, RAW_TABLE);
      await emptyTable(db, 'feed_items');
      const lost = await measure(async () => {
        whole = await rebuildMany(cluster, { ...cancel });
        return whole.added;
      });
      if (lost.rows !== plain.rows)
        throw new FeedctlError('INTERNAL', `${lost.rows} rows were written, expected ${plain.rows}`);
      step('rebuilding feeds that are sound');
      const sound = await measure(async () => (await rebuildMany(cluster, { ...cancel })).users);
      step('live posts');
      const live = await compareLive(bench, options);
      runs.push({ ...figures(plain, lost, sound), live });
    }
    report('verifying');
    const { checked, mismatched } = await verify(db, undefined, { ...cancel });
    const middle = [...runs].sort((a, b) => a.ratio - b.ratio)[runs.length >> 1]!;
    return {
      users: whole!.users,
      items: whole!.items,
      ...middle,
      runs,
      verify: { checked, mismatched },
      machine: await describeMachine(bench),
    };
  } finally {
    await bench.stop();
  }
}

const figures = (plain: Measured, lost: Measured, sound: Measured) => ({
  rebuildRowsPerSecond: Math.round(rowsPerSecond(lost)),
  plainRowsPerSecond: Math.round(rowsPerSecond(plain)),
  ratio: round(rowsPerSecond(lost) / rowsPerSecond(plain)),
  soundFeedsPerSecond: Math.round(rowsPerSecond(sound)),
});

async function compareLive(bench: BenchCluster, options: BenchRebuildOptions): Promise<Run['live']> {
  const { cluster } = bench;
  const { signal, seconds } = options;
  const posting = (work: () => Promise<unknown>) => livePosts(bench, options.rate, work);
  const alone = await posting(() => sleep(seconds * 1_000, undefined, signal && { signal }));
  await emptyTable(cluster.db, 'feed_items');
  const during = await posting(() => rebuildMany(cluster, { ...(signal && { signal }) }));
  return { alone, during, p99Ratio: round(during.p99 / alone.p99) };
}

/** Makes posts at a rate for as long as `work` takes, and says how long their rows took. */
async function livePosts(bench: BenchCluster, rate: number, work: () => Promise<unknown>): Promise<Live> {
  const { db, bus, ids } = bench.cluster;
  const authors = await pushedAuthors(db, LIVE_FOLLOWERS, LIVE_AUTHORS);
  const run = await ids.next();
  const startedAt = performance.now();
  const pending: Promise<void>[] = [];
  const make = async (author: number) => {
    const events = await makePosts(bench, [author]);
    await dispatch({ db, bus }, events, { importId: run, committedAt: Date.now() });
  };
  let ended = false;
  const working = work().finally(() => {
    ended = true;
  });
  working.catch(() => {}); // Thrown where it is waited for.
  let seconds = 0;
  while (!ended) {
    pending.push(make(authors[pending.length % authors.length]!));
    await sleep(Math.max(0, startedAt + (pending.length * 1_000) / rate - performance.now()));
    seconds = (performance.now() - startedAt) / 1_000;
  }
  await working;
  await Promise.all(pending);
  await fanOutDrained(bench.cluster);
  const latency = await runLatency(db, run);
  await forgetRun(db, run);
  return { ...latency, posts: pending.length, seconds: round(seconds) };
}
