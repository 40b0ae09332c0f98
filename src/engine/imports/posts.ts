import { setTimeout as sleep } from 'node:timers/promises';
import { depthOf } from '../bus/depths.ts';
import { fanOutDrained } from '../bus/drained.ts';
import { dispatch, dispatchWithin } from '../fanout/dispatcher.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import { type Operation, runOperation, saveProgress, type Work } from '../operations/run.ts';
import type { SocialContext } from '../social/context.ts';
import { type ImportedPost, importPosts } from '../store/posts.ts';
import { forgetRun, type LatencyMs, runDeliveries, runLatency } from '../store/runs.ts';
import { claimImport } from './sql.ts';

/** Batches being committed at a time, one for each of a small machine's cores. */
const PARALLEL = 2;
/** Event messages not yet planned: past this the replay waits, or latency would be that of its own backlog. */
const MAX_BACKLOG = 16;
const QUEUE_FULL_WAIT_MS = 200;
const QUEUE = 'events.bulk';
const REPORT_INTERVAL_MS = 250;
const EVENTS_AT_A_TIME = 1_000;

export interface ImportResult {
  /** Posts that are new. */
  readonly posts: number;
  /** Rows written for the first time, for posts of this run. */
  readonly deliveries: number;
  /** New posts of celebrities: merged when a feed is read. */
  readonly merged: number;
  readonly seconds: number;
  readonly deliveriesPerSecond: number;
  /** From the commit of a post to the commit of its row. */
  readonly latencyMs: LatencyMs;
}

export type ImportProgress = {
  phase: 'checking' | 'posting' | 'delivering';
  rows: number;
  total: number;
  deliveries: number;
};

export interface ImportOptions extends Pick<Work, 'inputs' | 'onResume'> {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ImportProgress) => void;
}

export type NewPost = Omit<ImportedPost, 'eventId'>;

/** Posts with times of their own, the same ones in the same order however often they are asked for. */
export interface PostSource {
  /** Names the posts: the digest of a file, the parameters of a generator. */
  readonly key: string;
  readonly kind: string;
  readonly rows: number;
  /** Unix seconds of the oldest and the newest. */
  readonly firstSecond: number;
  readonly lastSecond: number;
  /** The posts in batches, each a transaction, without the first `skip`. */
  batches(skip: number): AsyncIterable<NewPost[]>;
}

/**
 * Posts them all through the same path as any post, and returns when the last delivery has landed. Idempotent: what
 * is there already is left alone. Throws IMPORT_OVERLAP, OPERATION_RUNNING, OPERATION_CANCELLED or INTERRUPTED.
 */
export async function importAll(
  context: SocialContext,
  source: PostSource,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const { db } = context;
  const total = source.rows;
  if (total > 0) {
    const { key: digest, firstSecond, lastSecond } = source;
    await claimImport(db, { digest, firstSecond, lastSecond });
  }
  const { kind, key } = source;
  const { inputs, onResume } = options;
  const work = { kind, key, inputs, onResume, signal: options.signal };
  return runOperation<{ rows: number }, ImportResult>(db, work, async (operation) => {
    const { signal } = operation;
    const startedAt = performance.now();
    const run = await context.ids.next();
    try {
      const { posts, merged } = await postAll(context, source, { ...options, run, operation, signal });
      const report = setInterval(() => {
        void runDeliveries(db, run)
          .then((deliveries) => options.onProgress?.({ phase: 'delivering', rows: total, total, deliveries }))
          .catch(() => {});
      }, REPORT_INTERVAL_MS);
      try {
        await fanOutDrained(context, signal);
      } finally {
        clearInterval(report);
      }
      const seconds = (performance.now() - startedAt) / 1000;
      const deliveries = await runDeliveries(db, run);
      const latencyMs = await runLatency(db, run);
      return {
        posts,
        deliveries,
        merged,
        seconds,
        deliveriesPerSecond: Math.round(deliveries / seconds),
        latencyMs,
      };
    } catch (error) {
      if (!options.signal?.aborted) throw error;
      const why = 'interrupted; every post so far is delivered all the same';
      throw new FeedctlError('INTERRUPTED', why, { cause: error });
    } finally {
      await forgetRun(db, run).catch(() => {});
    }
  });
}

async function postAll(
  context: SocialContext,
  source: PostSource,
  options: ImportOptions & { run: number; operation: Operation<{ rows: number }> },
): Promise<{ posts: number; merged: number }> {
  const { run, operation, signal } = options;
  const celebrities = await pulledAuthors(context);
  const inFlight = new Set<Promise<void>>();
  let failure: unknown;
  let posts = 0;
  let merged = 0;

  const post = async (batch: NewPost[], before: Promise<void>, rows: number) => {
    const eventIds = await context.ids.take(batch.length);
    const rowsWithEvents = batch.map((row, i) => ({ ...row, eventId: eventIds[i]! }));
    // With shards the commit is no single one: a post could be there without its message.
    const { distributed } = await context.db.sharding();
    const publish = distributed ? undefined : dispatchWithin(context.bus, run, QUEUE);
    const outgoing = new Outgoing(context, run, signal);
    const events = await whenRoom(
      () =>
        importPosts(
          context.db,
          rowsWithEvents,
          publish ? { publish } : { committed: (done) => outgoing.add(done) },
        ),
      signal,
    );
    await outgoing.flush();
    posts += events.length;
    for (const event of events) if (celebrities.has(event.aggregateId)) merged += 1;
    // Noted in order: what counts as done has no gap that a resumed run would pass over.
    await before;
    if (failure) return;
    await saveProgress(context.db, operation.id, { rows }, { done: rows, total: source.rows, unit: 'rows' });
    options.onProgress?.({ phase: 'posting', rows, total: source.rows, deliveries: 0 });
  };

  let rows = operation.progress?.rows ?? 0;
  let last: Promise<void> = Promise.resolve();
  try {
    for await (const batch of source.batches(rows)) {
      rows += batch.length;
      const work: Promise<void> = post(batch, last, rows)
        .catch((error) => {
          failure ??= error;
        })
        .finally(() => inFlight.delete(work));
      inFlight.add(work);
      last = work;
      while (inFlight.size >= PARALLEL) await Promise.race(inFlight);
      if (failure) break;
      await roomForMore(context, signal);
      signal?.throwIfAborted();
    }
  } finally {
    // Interrupted too: what is being committed is noted, and nothing of it goes on after the operation has ended.
    await Promise.all(inFlight);
  }
  if (failure) throw failure;
  return { posts, merged };
}

/**
 * Committed events on their way to the bus, some hundreds at a time: shard by shard they would be small messages, and
 * after two seconds the sweeper would send them, for no run.
 */
class Outgoing {
  readonly #context: SocialContext;
  readonly #run: number;
  readonly #signal: AbortSignal | undefined;
  #events: EventRef[] = [];
  #committedAt = 0;

  constructor(context: SocialContext, run: number, signal: AbortSignal | undefined) {
    this.#context = context;
    this.#run = run;
    this.#signal = signal;
  }

  async add(events: readonly EventRef[]): Promise<void> {
    if (this.#events.length === 0) this.#committedAt = Date.now();
    this.#events.push(...events);
    if (this.#events.length >= EVENTS_AT_A_TIME) await this.flush();
  }

  async flush(): Promise<void> {
    const { db, bus } = this.#context;
    const events = this.#events;
    const header = { importId: this.#run, committedAt: this.#committedAt };
    this.#events = [];
    await whenRoom(() => dispatch({ db, bus }, events, header, QUEUE), this.#signal);
  }
}

/** A full queue refuses: the import waits, and tries then. */
async function whenRoom<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isFeedctlError(error, 'QUEUE_FULL')) throw error;
      await sleep(QUEUE_FULL_WAIT_MS, undefined, signal ? { signal } : {});
    }
  }
}

async function pulledAuthors(context: SocialContext): Promise<Set<number>> {
  const { rows } = await context.db.query<{ id: number }>(
    `select user_id as id from celebrities where state = 'pull'`,
  );
  return new Set(rows.map((row) => row.id));
}

async function roomForMore(context: SocialContext, signal?: AbortSignal): Promise<void> {
  for (;;) {
    if (depthOf(await context.bus.depths(), QUEUE).ready <= MAX_BACKLOG) return;
    await sleep(20, undefined, signal ? { signal } : {});
  }
}
