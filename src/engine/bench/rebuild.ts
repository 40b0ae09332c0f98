import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import { rebuildMany } from '../feed/rebuild/operation.ts';
import type { RebuildResult } from '../feed/rebuild/rebuild.ts';
import { verify } from '../feed/verify/verify.ts';
import { replay } from '../imports/activity.ts';
import { seedGraph } from '../imports/followGraph.ts';
import { DEFAULT_CELEBRITY_THRESHOLD } from '../model/celebrity.ts';
import { FeedctlError } from '../model/errors.ts';
import { type BenchCluster, openBenchCluster } from './benchCluster.ts';
import { type Measured, measure, middleRun, rowsPerSecond, thousandths } from './limit.ts';
import { type Live, livePosts } from './livePosts.ts';
import { describeMachine, type Machine } from './machine.ts';
import { copyFeeds, emptyTable, RAW_TABLE, settleAfterLoad } from './sql.ts';

export interface BenchRebuildOptions {
  /** SNAP edge lists, and an activity file. */
  readonly graph: readonly string[];
  readonly activity: string;
  readonly runs: number;
  /** Seconds of live posts without a rebuild. */
  readonly seconds: number;
  /** Live posts a second. */
  readonly rate: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

interface Run {
  /** Rows of feeds without any row, which are all written again. */
  readonly rebuildRowsPerSecond: number;
  readonly plainRowsPerSecond: number;
  readonly ratio: number;
  /** Feeds a second that have nothing to repair. */
  readonly soundFeedsPerSecond: number;
  /** From the commit of a post to the commit of its rows: alone, and while all feeds are rebuilt. */
  readonly live: { readonly alone: Live; readonly during: Live; readonly p99Ratio: number };
}

export interface BenchRebuildResult extends Run {
  readonly users: number;
  readonly items: number;
  /** All runs. The values above are those of the run with the median ratio. */
  readonly runs: readonly Run[];
  readonly verify: { readonly checked: number; readonly mismatched: number };
  readonly machine: Machine;
}

/**
 * Compares a rebuild of all feeds, without any row, with one plain `insert ... select` of the same
 * rows into an equal empty table, and measures live fan-out meanwhile. Runs alternate.
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
    // Untrimmed feeds are longer than rebuilt ones.
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
      step('rebuilding feeds without rows');
      await emptyTable(db, RAW_TABLE);
      await emptyTable(db, 'feed_items');
      const lost = await measure(async () => {
        whole = await rebuildMany(cluster, { ...cancel });
        return whole.added;
      });
      if (lost.rows !== plain.rows)
        throw new FeedctlError('INTERNAL', `${lost.rows} rows were written, expected ${plain.rows}`);
      step('rebuilding feeds that need no repair');
      const sound = await measure(async () => (await rebuildMany(cluster, { ...cancel })).users);
      step('live posts');
      const live = await compareLive(bench, options);
      runs.push({ ...rates(plain, lost, sound), live });
    }
    report('verifying');
    const { checked, mismatched } = await verify(db, undefined, { ...cancel });
    const middle = middleRun(runs, ({ ratio }) => ratio);
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

const rates = (plain: Measured, lost: Measured, sound: Measured) => ({
  rebuildRowsPerSecond: Math.round(rowsPerSecond(lost)),
  plainRowsPerSecond: Math.round(rowsPerSecond(plain)),
  ratio: thousandths(rowsPerSecond(lost) / rowsPerSecond(plain)),
  soundFeedsPerSecond: Math.round(rowsPerSecond(sound)),
});

async function compareLive(bench: BenchCluster, options: BenchRebuildOptions): Promise<Run['live']> {
  const { cluster } = bench;
  const { signal, seconds } = options;
  const posting = (work: () => Promise<unknown>) => livePosts(bench, options.rate, work);
  const alone = await posting(() => sleep(seconds * 1_000, undefined, signal && { signal }));
  await emptyTable(cluster.db, 'feed_items');
  const during = await posting(() => rebuildMany(cluster, { ...(signal && { signal }) }));
  return { alone, during, p99Ratio: thousandths(during.p99 / alone.p99) };
}
