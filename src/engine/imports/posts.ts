import { setTimeout as sleep } from 'node:timers/promises';
import { depthOf } from '../bus/depths.ts';
import { fanOutDrained } from '../bus/drained.ts';
import { dispatch, dispatchWithin } from '../fanout/dispatcher.ts';
import { FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import { type Operation, runOperation, type Work } from '../operations/run.ts';
import { isTransient } from '../resilience/classify.ts';
import type { SocialContext } from '../social/context.ts';
import { type ImportedPost, importPosts } from '../store/posts.ts';
import { forgetRun, type LatencyMs, runDeliveries, runLatency } from '../store/runs.ts';
import { poll } from '../util/poll.ts';
import { type ImportTally, partitionForImport } from './partitions.ts';
import { type ImportProgress, ImportReport, type ImportSaved } from './report.ts';
import { RowsOwed } from './rowsOwed.ts';
import { claimImport, followersOf } from './sql.ts';

/** Batches that are committed concurrently: one for each core of a small machine. */
const BATCH_CONCURRENCY = 2;
/**
 * Maximum number of event messages that are not planned yet. Beyond it the import waits. Otherwise
 * its latency would measure its own backlog.
 */
const MAX_BACKLOG = 16;
const BACKLOG_POLL_MS = 20;
const QUEUE_FULL_WAIT_MS = 200;
const QUEUE = 'events.bulk';
const EVENTS_PER_MESSAGE = 1_000;

export interface ImportResult {
  /** Posts of the file or of the generator, new or not. */
  readonly rows: number;
  /** New posts. */
  readonly posts: number;
  /** New feed rows for posts of this import. */
  readonly deliveries: number;
  /** New posts of celebrities, which are merged when a feed is read. */
  readonly merged: number;
  readonly seconds: number;
  readonly deliveriesPerSecond: number;
  /** Time from the commit of a post to the commit of its row. */
  readonly latencyMs: LatencyMs;
}

export interface ImportOptions extends Pick<Work, 'inputs' | 'onResume'> {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ImportProgress) => void;
}

export type NewPost = Omit<ImportedPost, 'eventId'>;

/** Posts with given times. Every call returns the same posts in the same order. */
export interface PostSource {
  /** Identifies the posts: the digest of a file, or the parameters of a generator. */
  readonly key: string;
  readonly kind: string;
  /** Unix seconds of the oldest and the newest post. */
  readonly firstSecond: number;
  readonly lastSecond: number;
  readonly tally: ImportTally;
  /** Yields batches, one per transaction, without the first `skip` posts. */
  batches(skip: number): AsyncIterable<NewPost[]>;
}

/**
 * Imports posts through the same path as any post, and returns after the last delivery. Idempotent:
 * existing posts stay as they are. Throws IMPORT_OVERLAP, OPERATION_RUNNING, OPERATION_CANCELLED or
 * INTERRUPTED, or with exit status 3 the error of a server that went away after the first post.
 */
export async function importAll(
  context: SocialContext,
  source: PostSource,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const { db } = context;
  const { kind, key, firstSecond, lastSecond } = source;
  if (source.tally.posts > 0) await claimImport(db, { digest: key, firstSecond, lastSecond });
  const { inputs, onResume, signal } = options;
  const work = { kind, key, inputs, onResume, signal };
  let begun = false;
  const run = async (operation: Operation<ImportSaved>): Promise<ImportResult> => {
    const { progress: saved } = operation;
    const { tally } = source;
    begun = (saved?.rows ?? 0) > 0;
    const importId = await context.ids.next();
    const onCommitted = () => {
      begun = true;
    };
    const followers = await followersOf(db, tally.authors.keys());
    const owed = new RowsOwed(followers, tally, saved?.rows ?? 0);
    const report = new ImportReport(context, {
      operationId: operation.id,
      importId,
      saved,
      totalPosts: tally.posts,
      owed,
      onProgress: options.onProgress,
    });
    try {
      await partitionForImport(context, { tally, rows: owed.rows }, operation.signal);
      return await importAs(context, source, { operation, importId, owed, report, onCommitted });
    } catch (error) {
      if (!signal?.aborted) throw error;
      throw new FeedctlError('INTERRUPTED', 'interrupted; every post so far is delivered all the same', {
        cause: error,
      });
    } finally {
      await forgetRun(db, importId).catch(() => {});
    }
  };
  try {
    // The error that is saved with the operation is the one that ended it.
    return await runOperation<ImportSaved, ImportResult>(db, work, run);
  } catch (error) {
    throw begun ? partlyDone(error) : error;
  }
}

/** Says of a server that went away in the middle of an import that the import can be continued. */
function partlyDone(error: unknown): unknown {
  if (!isTransient(error)) return error;
  const message = `${messageOf(error)}; every post so far is delivered all the same`;
  const again = 'Run the same command again: it continues where it stopped.';
  if (!isFeedctlError(error))
    return new FeedctlError('INTERRUPTED', message, { cause: error, suggestions: [again] });
  if (error.exitStatus === 3) return error;
  const suggestions = [again, ...error.suggestions];
  return new FeedctlError(error.code, message, { cause: error, suggestions, exitStatus: 3 });
}

interface ImportRun {
  readonly operation: Operation<ImportSaved>;
  readonly importId: number;
  readonly owed: RowsOwed;
  readonly report: ImportReport;
  /** Called when the first posts are stored. */
  readonly onCommitted: () => void;
}

async function importAs(context: SocialContext, source: PostSource, run: ImportRun): Promise<ImportResult> {
  const { db } = context;
  const { importId, operation, owed, report } = run;
  const startedAt = performance.now();
  await report.start();
  let stored: { posts: number; merged: number };
  try {
    stored = await new PostImport(context, source, run).run();
    owed.end();
    await fanOutDrained(context, operation.signal);
  } finally {
    await report.stop();
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  await report.end();
  const deliveries = await runDeliveries(db, importId);
  const deliveriesPerSecond = Math.round(deliveries / seconds);
  const latencyMs = await runLatency(db, importId);
  return { rows: source.tally.posts, ...stored, deliveries, seconds, deliveriesPerSecond, latencyMs };
}

/** Commits the posts of a source, batch by batch. */
class PostImport {
  readonly #context: SocialContext;
  readonly #source: PostSource;
  readonly #run: ImportRun;
  readonly #inFlight = new Set<Promise<void>>();
  #celebrities: ReadonlySet<number> = new Set();
  #failure: unknown;
  #posts = 0;
  #merged = 0;

  constructor(context: SocialContext, source: PostSource, run: ImportRun) {
    this.#context = context;
    this.#source = source;
    this.#run = run;
  }

  async run(): Promise<{ posts: number; merged: number }> {
    const { progress, signal } = this.#run.operation;
    this.#celebrities = await pulledAuthors(this.#context);
    let rows = progress?.rows ?? 0;
    let last: Promise<void> = Promise.resolve();
    try {
      for await (const batch of this.#source.batches(rows)) {
        rows += batch.length;
        last = this.#start(batch, last, rows);
        while (this.#inFlight.size >= BATCH_CONCURRENCY) await Promise.race(this.#inFlight);
        if (this.#failure) break;
        await backlogDrained(this.#context, signal);
        signal.throwIfAborted();
      }
    } finally {
      // Also after an abort: batches in flight save their progress before the operation ends.
      await Promise.all(this.#inFlight);
    }
    if (this.#failure) throw this.#failure;
    return { posts: this.#posts, merged: this.#merged };
  }

  #start(batch: readonly NewPost[], before: Promise<void>, rows: number): Promise<void> {
    const work: Promise<void> = this.#import(batch, before, rows)
      .catch((error) => {
        this.#failure ??= error;
      })
      .finally(() => this.#inFlight.delete(work));
    this.#inFlight.add(work);
    return work;
  }

  /** `before`: the previous batch. `rows`: posts of the source up to the end of this batch. */
  async #import(batch: readonly NewPost[], before: Promise<void>, rows: number): Promise<void> {
    const { owed, report } = this.#run;
    const events = await this.#commit(batch);
    this.#posts += events.length;
    owed.stored(
      batch,
      events.map(({ aggregateId }) => aggregateId),
    );
    for (const event of events) if (this.#celebrities.has(event.aggregateId)) this.#merged += 1;
    // Progress is saved in order, so that a resumed run skips no gap.
    await before;
    if (this.#failure) return;
    await report.posted(rows);
  }

  async #commit(batch: readonly NewPost[]): Promise<EventRef[]> {
    const { db, ids } = this.#context;
    const { importId, operation, onCommitted } = this.#run;
    const eventIds = await ids.take(batch.length);
    const posts = batch.map((post, i) => ({ ...post, eventId: eventIds[i]! }));
    const publisher = new EventPublisher(this.#context, importId, operation.signal);
    const publish = await dispatchWithin(this.#context, { importId, queue: QUEUE });
    const options = publish
      ? { publish }
      : {
          committed: (events: readonly EventRef[]) => {
            onCommitted();
            return publisher.add(events);
          },
        };
    const events = await retryWhileFull(() => importPosts(db, posts, options), operation.signal);
    onCommitted();
    await publisher.flush();
    return events;
  }
}

/**
 * Publishes committed events in messages of about a thousand. One message per shard would be small.
 * Without this class the sweeper would publish the events after two seconds, without the import's
 * id.
 */
class EventPublisher {
  readonly #context: SocialContext;
  readonly #importId: number;
  readonly #signal: AbortSignal;
  #events: EventRef[] = [];
  #committedAt = 0;

  constructor(context: SocialContext, importId: number, signal: AbortSignal) {
    this.#context = context;
    this.#importId = importId;
    this.#signal = signal;
  }

  async add(events: readonly EventRef[]): Promise<void> {
    if (this.#events.length === 0) this.#committedAt = this.#context.clock.now();
    this.#events.push(...events);
    if (this.#events.length >= EVENTS_PER_MESSAGE) await this.flush();
  }

  async flush(): Promise<void> {
    const { db, bus } = this.#context;
    const events = this.#events;
    const header = { importId: this.#importId, committedAt: this.#committedAt };
    this.#events = [];
    await retryWhileFull(() => dispatch({ db, bus }, events, header, QUEUE), this.#signal);
  }
}

/** Retries until the queue accepts messages. */
async function retryWhileFull<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isFeedctlError(error, 'QUEUE_FULL')) throw error;
      await sleep(QUEUE_FULL_WAIT_MS, undefined, { signal });
    }
  }
}

async function pulledAuthors(context: SocialContext): Promise<Set<number>> {
  const { rows } = await context.db.query<{ id: number }>(
    `select user_id as id from celebrities where state = 'pull'`,
  );
  return new Set(rows.map((row) => row.id));
}

async function backlogDrained({ bus }: SocialContext, signal: AbortSignal): Promise<void> {
  const isDrained = async () => depthOf(await bus.depths(), QUEUE).ready <= MAX_BACKLOG;
  await poll(isDrained, { everyMs: BACKLOG_POLL_MS, signal });
}
