import type { Config } from '../config/config.ts';
import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { Resources } from '../resilience/resources.ts';
import type { LatencyMs } from '../store/runs.ts';
import { BASELINES, type BaselineName, oneInsertEach, perFollowerMessages } from './baselines.ts';
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
import type { Mix } from './mixes.ts';
import { checkpoint, checkpoints, emptyTable, RAW_TABLE, walBytes } from './sql.ts';
import { CACHED_READERS, type PathRun, readersOf, Stage } from './stage.ts';
import { pageTimes, type StoredFeeds, withOtherPosts } from './stored.ts';

/** Connections of the writer, on one PostgreSQL server and on Citus. */
const RAW_CONNECTIONS = { plain: 2, distributed: 8 } as const;
/** Pages that are read from the table after the runs, and their size. */
const PAGES = 1_000;
const PAGE = 20;

export interface BenchFanoutOptions {
  readonly mix: Mix;
  /** Measured runs of the path, each followed by one of COPY. */
  readonly runs: number;
  readonly baseline: BaselineName;
  /** Makes posts with 8 followers meanwhile, and reports their latency separately. */
  readonly smallPosts?: boolean;
  /** Rows that the cluster holds before the first run. The mix has a reader for each of their users. */
  readonly stored?: StoredFeeds;
  /** Empty database for the runs without stored rows, if the cluster is no temporary one. */
  readonly emptyDatabaseUrl?: string | undefined;
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
  readonly stored: StoredResult | null;
  readonly machine: Machine;
}

/** The path in a store with many rows beside COPY into the same store, and beside an empty store. */
export interface StoredResult extends StoredFeeds {
  readonly users: number;
  /** COPY of the rows into the same store: rows a second. */
  readonly copyPerSecond: number | null;
  /** The path in a cluster without stored rows. Null: there was no second cluster. */
  readonly emptyDeliveriesPerSecond: number | null;
  readonly ratioToCopy: number | null;
  readonly ratioToEmpty: number | null;
  /** On Citus: of the coordinator alone. */
  readonly walBytesPerRow: {
    readonly path: number | null;
    readonly copy: number | null;
    readonly emptyPath: number | null;
    readonly emptyCopy: number | null;
  };
  /** Of the server with the stored rows, during all runs. Each run begins with one. */
  readonly checkpoints: number;
  /** First pages of random readers, from the table. */
  readonly pageMs: LatencyMs;
}

/**
 * Compares the whole path of posts with the limit of the disk and the database. The path: a mix of
 * posts, from their dispatch to the commit of the last row, with cached feeds and open sockets. The
 * limit: COPY of the same rows, in the same batches and order, into an equal empty table. Runs of
 * both alternate. With stored rows, the path in a second cluster without them takes turns too.
 */
export async function benchFanout(
  config: Config,
  version: string,
  options: BenchFanoutOptions,
): Promise<BenchFanoutResult> {
  const { mix, stored, signal } = options;
  const report = options.onProgress ?? (() => {});
  if (options.baseline === 'per-follower' && !config.brokerUrl)
    throw new FeedctlError('USAGE', 'the baseline per-follower needs a broker: pass --broker-url');
  const resources = new Resources();
  const open = async (at: Config, rows?: StoredFeeds) => {
    const stage = await Stage.open(at, version, { ...options, stored: rows });
    resources.add('cluster', () => stage.stop());
    return stage;
  };
  try {
    report('making posts');
    const stage = await open(config, stored);
    const second = stored && secondCluster(config, options.emptyDatabaseUrl);
    const empty = second && (await open(second));
    const { db } = stage.bench.cluster;
    const sharding = await db.sharding();
    const connections = RAW_CONNECTIONS[sharding.distributed ? 'distributed' : 'plain'];
    const checkpointsBefore = await checkpoints(db);
    const copy = async (table: string, rows: readonly Buffer[][]): Promise<Written> => {
      const before = await walBytes(db);
      const copied = await measure(() => rawCopy(db.url, table, rows, connections));
      return { ...copied, walBytes: (await walBytes(db)) - before };
    };
    const runs: FanoutRun[] = [];
    let rows: Buffer[][] = [];
    for (let n = 1; n <= options.runs; n += 1) {
      signal?.throwIfAborted();
      const step = (text: string) => report(`run ${n} of ${options.runs}: ${text}`);
      step('the path');
      const { batches, ...pathRun } = await stage.measurePath();
      rows = rowsOfBatches(batches, sharding);
      step('COPY alone');
      await emptyTable(db, RAW_TABLE);
      const raw = await copy(RAW_TABLE, rows);
      let full: FullRun | undefined;
      if (stored) {
        step('COPY into the stored rows');
        await checkpoint(db);
        full = { copy: await copy('feed_items', withOtherPosts(rows)), empty: undefined };
        if (empty) {
          step('the path without stored rows');
          full = { ...full, empty: await empty.measurePath() };
        }
      }
      runs.push({ ...pathRun, raw, full });
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
      stored: stored
        ? {
            ...stored,
            users: mix.readers,
            ...storedRates(runs),
            checkpoints: (await checkpoints(db)) - checkpointsBefore,
            pageMs: await pageTimes(db, readersOf(mix), { pages: PAGES, limit: PAGE }),
          }
        : null,
      machine: await describeMachine(stage.bench),
    };
  } finally {
    await resources.release();
  }
}

/** The cluster without stored rows: another temporary one, or the other database that the caller names. */
function secondCluster(config: Config, emptyDatabaseUrl: string | undefined): Config | undefined {
  // Two clusters cannot share a broker or a cache.
  if (config.brokerUrl !== undefined || config.cacheUrl !== undefined) return undefined;
  if (config.embedded) return config;
  const { sourced: _, ...rest } = config;
  return emptyDatabaseUrl === undefined ? undefined : { ...rest, databaseUrl: emptyDatabaseUrl };
}

interface Written extends Measured {
  readonly walBytes: number;
}

interface FullRun {
  /** COPY of as many rows, of other posts, into the store with the stored rows. */
  readonly copy: Written;
  /** The path in a cluster without stored rows. */
  readonly empty: PathRun | undefined;
}

interface FanoutRun extends Omit<PathRun, 'batches'> {
  readonly raw: Written;
  readonly full: FullRun | undefined;
}

/** Rates of all runs together, and the medians of the ratios of each run. */
function storedRates(runs: readonly FanoutRun[]) {
  const full = runs.flatMap((run) => (run.full ? [{ ...run, ...run.full }] : []));
  const median = (values: number[]) =>
    values.length > 0 ? thousandths(middleRun(values, (value) => value)) : null;
  const perRow = (written: readonly Written[]) =>
    median(written.map(({ walBytes, rows }) => walBytes / rows));
  const pathOf = ({ path, walBytes }: Pick<PathRun, 'path' | 'walBytes'>) => ({ ...path, walBytes });
  const empties = full.flatMap((run) => (run.empty ? [{ ...run, empty: run.empty }] : []));
  return {
    copyPerSecond: median(full.map(({ copy }) => Math.round(rowsPerSecond(copy)))),
    emptyDeliveriesPerSecond: median(empties.map(({ empty }) => Math.round(rowsPerSecond(empty.path)))),
    ratioToCopy: median(full.map(({ path, copy }) => rowsPerSecond(path) / rowsPerSecond(copy))),
    ratioToEmpty: median(empties.map(({ path, empty }) => rowsPerSecond(path) / rowsPerSecond(empty.path))),
    walBytesPerRow: {
      path: perRow(full.map(pathOf)),
      copy: perRow(full.map(({ copy }) => copy)),
      emptyPath: perRow(empties.map(({ empty }) => pathOf(empty))),
      emptyCopy: perRow(full.map(({ raw }) => raw)),
    },
  };
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
