import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import type { Database } from '../database/database.ts';
import { retire } from '../feed/trim/retire.ts';
import { trim } from '../feed/trim/trim.ts';
import { type Measured, measure, rowsPerSecond, thousandths } from './limit.ts';
import { type Live, livePosts } from './livePosts.ts';
import { describeMachine, type Machine } from './machine.ts';
import { uniformMix } from './mixes.ts';
import { deadFeedRows } from './sql.ts';
import { Stage } from './stage.ts';
import { type StoredFeeds, storedReaders } from './stored.ts';

/** Authors of the live posts have so many followers. */
const FOLLOWERS = 8;
/** Posts of the mix: one each of ten authors. */
const POSTS = 200;
/** Deletion row by row is measured with fewer rows: it takes minutes. */
const MAX_DELETED = 2_000_000;

export interface BenchTrimOptions {
  readonly stored: StoredFeeds;
  /** Seconds of live posts alone, and around each trim. */
  readonly seconds: number;
  /** Live posts a second. */
  readonly rate: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

interface Trimmed {
  readonly rows: number;
  readonly seconds: number;
  readonly rowsPerSecond: number;
  /** Rows that vacuum has to remove afterwards. Null on Citus. */
  readonly deadRows: number | null;
  /** Live posts around the trim. */
  readonly live: Live;
}

export interface BenchTrimResult {
  /** Live posts without a trim. */
  readonly alone: Live;
  /** `feed trim --before`: whole partitions. */
  readonly partitions: Trimmed;
  /** `feed trim --keep 1`: row by row. */
  readonly rows: Trimmed;
  /** Rows a second of the first over those of the second. */
  readonly speedup: number;
  /** p99 of live posts around the removal of partitions over p99 alone. */
  readonly p99Ratio: number;
  readonly machine: Machine;
}

/**
 * Compares the removal of old rows by whole partitions with their deletion row by row, each in a cluster of
 * its kind, while posts are made.
 */
export async function benchTrim(
  config: Config,
  version: string,
  options: BenchTrimOptions,
): Promise<BenchTrimResult> {
  const { stored } = options;
  const whole = await onStage(config, version, options, stored, async (stage) => {
    const { db } = stage.bench.cluster;
    const alone = await around(stage, options, async () => {});
    let partitions: Measured | undefined;
    const live = await around(stage, options, async () => {
      partitions = await measure(async () => {
        await retire(db, { beforeMs: Date.now() });
        return stored.rows;
      });
    });
    const machine = await describeMachine(stage.bench);
    return { alone, machine, partitions: await trimmed(db, partitions!, live) };
  });
  const fewer = { ...stored, rows: Math.min(stored.rows, MAX_DELETED) };
  const rows = await onStage(config, version, options, fewer, async (stage) => {
    const { db } = stage.bench.cluster;
    let deleted: Measured | undefined;
    const live = await around(stage, options, async () => {
      deleted = await measure(async () => (await trim(db, undefined, { keep: 1 })).items);
    });
    return trimmed(db, deleted!, live);
  });
  return {
    ...whole,
    rows,
    speedup: thousandths(whole.partitions.rowsPerSecond / rows.rowsPerSecond),
    p99Ratio: thousandths(whole.partitions.live.p99 / whole.alone.p99),
  };
}

async function onStage<T>(
  config: Config,
  version: string,
  { signal, onProgress }: BenchTrimOptions,
  stored: StoredFeeds,
  work: (stage: Stage) => Promise<T>,
): Promise<T> {
  const mix = uniformMix(POSTS, FOLLOWERS, storedReaders(stored));
  onProgress?.('making feeds');
  const stage = await Stage.open(config, version, { mix, stored, signal, onProgress });
  try {
    onProgress?.('trimming');
    return await work(stage);
  } finally {
    await stage.stop();
  }
}

/** Makes live posts before, while and after `work` runs. */
async function around(
  { bench }: Stage,
  { rate, seconds, signal }: BenchTrimOptions,
  work: () => Promise<void>,
): Promise<Live> {
  const half = () => sleep(seconds * 500, undefined, signal && { signal });
  return livePosts(bench, rate, async () => {
    await half();
    await work();
    await half();
  });
}

async function trimmed(db: Database, measured: Measured, live: Live): Promise<Trimmed> {
  const { rows, seconds } = measured;
  return {
    rows,
    seconds: thousandths(seconds),
    rowsPerSecond: Math.round(rowsPerSecond(measured)),
    deadRows: await deadFeedRows(db),
    live,
  };
}
