import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import { dispatch } from '../fanout/dispatcher.ts';
import { fanOutSettled } from '../fanout/settled.ts';
import { FeedctlError } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import { firstIdAt } from '../model/ids.ts';
import { ROW_BYTES, rowAuthor, rowPost, rowUser } from '../model/messages.ts';
import { type EmbeddedCluster, startEmbeddedCluster } from '../roles.ts';
import { copyIn } from '../store/copy.ts';
import { Database } from '../store/database.ts';
import { importPosts } from '../store/posts.ts';
import { forgetRun, type LatencyMs, runDeliveries, runLatency } from '../store/runs.ts';
import { silentLog } from '../telemetry/log.ts';
import { randomSource } from './generate.ts';
import { seedPairs } from './seed.ts';

/** The limit: as many connections as the writer has. */
const RAW_CONNECTIONS = 2;
const BASELINE_ROWS = 20_000;
const BASELINE_CONNECTIONS = 16;
const POSTS_A_BATCH = 4_000;

export interface BenchFanoutOptions {
  readonly posts: number;
  readonly followers: number;
  /** Measured runs, each followed by one of the raw limit. */
  readonly runs: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

export interface BenchFanoutResult {
  readonly deliveries: number;
  readonly seconds: number;
  readonly deliveriesPerSecond: number;
  readonly rawCopyPerSecond: number;
  /** Deliveries a second through the whole path to rows a second by COPY alone. */
  readonly ratio: number;
  /** Each pair of runs by itself, in order. */
  readonly runs: readonly { deliveriesPerSecond: number; rawCopyPerSecond: number; ratio: number }[];
  readonly baseline: { name: string; deliveriesPerSecond: number; speedup: number };
  readonly latencyMs: LatencyMs;
  readonly machine: { cpu: string; cores: number; memoryGiB: number; node: string; postgres: string };
}

/**
 * How near the whole path of a post comes to the limit of the disk and the database: posts with so many followers
 * each, from their dispatch to the commit of the last row, against COPY of the very same rows, in the same batches
 * and order, into an equal empty table. Runs alternate. In a temporary embedded cluster.
 */
export async function benchFanout(
  config: Config,
  version: string,
  options: BenchFanoutOptions,
): Promise<BenchFanoutResult> {
  const report = options.onProgress ?? (() => {});
  const dataDir = await mkdtemp(join(tmpdir(), 'feedctl-bench-'));
  await chmod(dataDir, 0o711);
  let batches: Buffer[][] = [];
  let embedded: EmbeddedCluster | undefined;
  try {
    embedded = await startEmbeddedCluster(
      { ...config, dataDir, databaseUrl: undefined, embedded: true },
      {
        host: '127.0.0.1',
        port: 0,
        log: silentLog,
        version,
        temporary: true,
        ...(options.signal && { signal: options.signal }),
        onBatch: (rows) => batches.push(rows),
      },
    );
    const { cluster } = embedded;
    const { db } = cluster;
    report('making posts');
    const events = await prepare(embedded, options);

    const pairs: { path: Measured; raw: Measured }[] = [];
    let latencyMs: LatencyMs = { p50: 0, p95: 0, p99: 0 };
    for (let run = 1; run <= options.runs; run += 1) {
      options.signal?.throwIfAborted();
      report(`run ${run} of ${options.runs}: the path`);
      batches = [];
      await settle(db, 'feed_items');
      const runId = await cluster.ids.next();
      const path = await measure(async () => {
        await dispatch(db, cluster.bus, events, { run: runId, committedAt: Date.now() });
        await fanOutSettled(cluster, options.signal);
        return runDeliveries(db, runId);
      });
      latencyMs = await runLatency(db, runId);
      await forgetRun(db, runId);
      if (path.rows !== options.posts * options.followers) {
        throw new FeedctlError(
          'INTERNAL',
          `${path.rows} rows were written, expected ${options.posts * options.followers}`,
        );
      }
      report(`run ${run} of ${options.runs}: COPY alone`);
      await db.query('create table if not exists bench_raw (like feed_items including all)');
      await settle(db, 'bench_raw');
      pairs.push({ path, raw: await measure(() => rawCopy(db, batches)) });
    }
    report('the baseline');
    const baseline = await measure(() => oneRowInserts(db, batches));
    const rate = (measured: Measured) => measured.rows / measured.seconds;
    const middle = [...pairs].sort((a, b) => rate(a.path) / rate(a.raw) - rate(b.path) / rate(b.raw))[
      pairs.length >> 1
    ]!;
    return {
      deliveries: middle.path.rows,
      seconds: middle.path.seconds,
      deliveriesPerSecond: Math.round(rate(middle.path)),
      rawCopyPerSecond: Math.round(rate(middle.raw)),
      ratio: round(rate(middle.path) / rate(middle.raw)),
      runs: pairs.map(({ path, raw }) => ({
        deliveriesPerSecond: Math.round(rate(path)),
        rawCopyPerSecond: Math.round(rate(raw)),
        ratio: round(rate(path) / rate(raw)),
      })),
      baseline: {
        name: `one insert a row, ${BASELINE_CONNECTIONS} connections`,
        deliveriesPerSecond: Math.round(rate(baseline)),
        speedup: round(rate(middle.path) / rate(baseline)),
      },
      latencyMs,
      machine: {
        cpu: cpus()[0]?.model ?? 'unknown',
        cores: availableParallelism(),
        memoryGiB: Math.round(totalmem() / 2 ** 30),
        node: process.version,
        postgres: (await db.query<{ v: string }>(`select current_setting('server_version') as v`)).rows[0]!.v,
      },
    };
  } finally {
    await embedded?.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

interface Measured {
  readonly rows: number;
  readonly seconds: number;
}

async function measure(work: () => Promise<number>): Promise<Measured> {
  const startedAt = performance.now();
  const rows = await work();
  return { rows, seconds: (performance.now() - startedAt) / 1000 };
}

const round = (value: number): number => Math.round(value * 1000) / 1000;

/** Every run starts with an empty table and nothing left to write back. */
async function settle(db: Database, table: string): Promise<void> {
  await db.query(`truncate ${table}`);
  await db.query('vacuum bus.messages');
  await db.query('checkpoint');
}

/** Users, authors with exactly so many followers each, and their posts, committed and not yet dispatched. */
async function prepare(embedded: EmbeddedCluster, options: BenchFanoutOptions): Promise<EventRef[]> {
  const { cluster } = embedded;
  const random = randomSource(1);
  const authors = Math.max(1, Math.min(options.posts, Math.ceil(options.posts / 20)));
  const users = Math.max(options.followers * 4, 20_000);
  async function* pairs() {
    for (let author = 1; author <= authors; author += 1) {
      const followers = new Set<number>();
      while (followers.size < options.followers) followers.add(authors + 1 + Math.floor(random() * users));
      yield [...followers].map((follower): [number, number] => [follower, author]);
    }
  }
  await seedPairs(cluster, pairs(), { celebrityThreshold: 2 ** 31 - 1 });
  const events: EventRef[] = [];
  const ids = await cluster.ids.take(options.posts);
  for (let from = 0; from < options.posts; from += POSTS_A_BATCH) {
    const part = ids.slice(from, from + POSTS_A_BATCH);
    const eventIds = await cluster.ids.take(part.length);
    const rows = part.map((id, i) => ({
      id,
      authorId: 1 + ((from + i) % authors),
      body: 'a post of the benchmark',
      createdAtMs: Date.now(),
      eventId: eventIds[i]!,
    }));
    events.push(...(await importPosts(cluster.db, rows)));
  }
  // The sweeper would dispatch what the runs are about to.
  await cluster.db.query('update events set dispatched_at = now() where id <= $1', [
    firstIdAt(Date.now() + 60_000),
  ]);
  await cluster.db.query('vacuum analyze events, posts, followers, follows, users');
  return events;
}

async function rawCopy(db: Database, batches: readonly Buffer[][]): Promise<number> {
  const queue = batches.values();
  const copied = await Promise.all(
    Array.from({ length: RAW_CONNECTIONS }, () =>
      db.withSession(async (session) => {
        let bytes = 0;
        for (const rows of queue) {
          await copyIn(
            session,
            'copy bench_raw (user_id, post_id, author_id) from stdin (format binary)',
            rows,
          );
          bytes += rows.reduce((sum, part) => sum + part.length, 0);
        }
        return bytes;
      }),
    ),
  );
  return copied.reduce((sum, bytes) => sum + bytes, 0) / ROW_BYTES;
}

/** The way such systems began: one statement and one commit for each row. A part of the rows is enough to tell. */
async function oneRowInserts(db: Database, batches: readonly Buffer[][]): Promise<number> {
  await settle(db, 'bench_raw');
  const rows: [number, number, number][] = [];
  for (const part of batches.flat()) {
    for (let at = 0; at < part.length && rows.length < BASELINE_ROWS; at += ROW_BYTES) {
      rows.push([rowUser(part, at), rowPost(part, at), rowAuthor(part, at)]);
    }
  }
  const queue = rows.values();
  const pool = new Database(db.url, { maxSessions: BASELINE_CONNECTIONS });
  try {
    await Promise.all(
      Array.from({ length: BASELINE_CONNECTIONS }, async () => {
        for (const row of queue)
          await pool.query('insert into bench_raw (user_id, post_id, author_id) values ($1, $2, $3)', row);
      }),
    );
  } finally {
    await pool.close();
  }
  return rows.length;
}
