import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { dispatch } from '../fanout/dispatcher.ts';
import { fanOutSettled } from '../fanout/settled.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import { IMPORT_SECONDS, IMPORTS_PER_SECOND, importedId } from '../model/ids.ts';
import type { SocialContext } from '../social/context.ts';
import { claimImport } from '../store/imports.ts';
import { noteProgress, type Operation, runOperation } from '../store/operations.ts';
import { type ImportedPost, importPosts } from '../store/posts.ts';
import { forgetRun, type LatencyMs, runDeliveries, runLatency } from '../store/runs.ts';
import { missingUsers } from '../store/users.ts';
import { idField, readRecords } from './lines.ts';

const POSTS_A_BATCH = 4_000;
/** Batches being committed at a time, one for each of a small machine's cores. */
const PARALLEL = 2;
/** Event messages not yet planned: past this the replay waits, or latency would be that of its own backlog. */
const MAX_BACKLOG = 16;
const QUEUE_FULL_WAIT_MS = 200;

export interface ReplayResult {
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

export type ReplayProgress = {
  phase: 'checking' | 'posting' | 'delivering';
  rows: number;
  total: number;
  deliveries: number;
};

export interface ReplayOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ReplayProgress) => void;
}

interface Row {
  readonly actor: number;
  readonly target: number;
  readonly second: number;
  readonly kind: string;
}

function parseRow(fields: string[]): Row {
  if (fields.length !== 4)
    throw `expected \`actor target unix-seconds kind\`, found ${fields.length} field(s)`;
  const second = Number(fields[2]);
  if (!/^\d+$/.test(fields[2]!) || second < IMPORT_SECONDS.min || second > IMPORT_SECONDS.max) {
    throw `${JSON.stringify(fields[2])} is no time in unix seconds from 2010 on`;
  }
  return {
    actor: idField(fields[0]!, 'user'),
    target: idField(fields[1]!, 'user'),
    second,
    kind: fields[3]!,
  };
}

/** Gives each row its rank among the rows of its second, in file order: half of its id. */
class Ranks {
  readonly #counts = new Map<number, number>();

  next(second: number): number {
    const rank = this.#counts.get(second) ?? 0;
    if (rank === IMPORTS_PER_SECOND) throw `more than ${IMPORTS_PER_SECOND} rows of the same second`;
    this.#counts.set(second, rank + 1);
    return rank;
  }
}

interface Checked {
  readonly digest: string;
  readonly rows: number;
  readonly firstSecond: number;
  readonly lastSecond: number;
}

/** What a replay of this file would post. Throws as `replay` does. */
export async function replayPlan(
  context: SocialContext,
  path: string,
  options: ReplayOptions = {},
): Promise<{ rows: number }> {
  const { rows } = await checkFile(context, path, options);
  return { rows };
}

/** Reads the whole file before anything is written: a bad line at its end must not leave half of it behind. */
async function checkFile(context: SocialContext, path: string, options: ReplayOptions): Promise<Checked> {
  const digest = createHash('sha256');
  const actors = new Map<number, number>();
  const ranks = new Ranks();
  let rows = 0;
  let firstSecond = Number.POSITIVE_INFINITY;
  let lastSecond = 0;
  const check = (fields: string[], line: number) => {
    const row = parseRow(fields);
    ranks.next(row.second);
    if (!actors.has(row.actor)) actors.set(row.actor, line);
    firstSecond = Math.min(firstSecond, row.second);
    lastSecond = Math.max(lastSecond, row.second);
    rows += 1;
  };
  for await (const _ of readRecords(path, check, digest)) {
    if (options.signal?.aborted) throw new FeedctlError('INTERRUPTED', 'interrupted; nothing was changed');
    options.onProgress?.({ phase: 'checking', rows, total: 0, deliveries: 0 });
  }
  const missing = await missingUsers(context.db, [...actors.keys()]);
  if (missing.length > 0) {
    const first = missing.reduce((a, b) => (actors.get(a)! < actors.get(b)! ? a : b));
    const others = missing.length > 1 ? `, and ${missing.length - 1} other actor(s) are missing` : '';
    throw new FeedctlError(
      'USER_NOT_FOUND',
      `${path}, line ${actors.get(first)}: there is no user ${first}${others}`,
      {
        suggestions: ['Load the users first: `feedctl seed graph FILE...`.'],
      },
    );
  }
  return { digest: digest.digest('hex'), rows, firstSecond, lastSecond };
}

/**
 * Posts every row of an activity file (`actor target unix-seconds kind`) at its own time, through the same path as
 * any post, and returns when the last delivery has landed. Idempotent: what is there already is left alone.
 * Throws BAD_LINE, USER_NOT_FOUND, IMPORT_OVERLAP, OPERATION_RUNNING or INTERRUPTED.
 */
export async function replay(
  context: SocialContext,
  path: string,
  options: ReplayOptions = {},
): Promise<ReplayResult> {
  const { db } = context;
  const checked = await checkFile(context, path, options);
  if (checked.rows > 0) await claimImport(db, checked);
  return runOperation<{ rows: number }, ReplayResult>(
    db,
    { kind: 'replay', key: checked.digest },
    async (operation) => {
      const startedAt = performance.now();
      const run = await context.ids.next();
      try {
        const { posts, merged } = await postAll(context, path, {
          ...options,
          run,
          operation,
          total: checked.rows,
        });
        const report = setInterval(() => {
          void runDeliveries(db, run)
            .then((deliveries) =>
              options.onProgress?.({
                phase: 'delivering',
                rows: checked.rows,
                total: checked.rows,
                deliveries,
              }),
            )
            .catch(() => {});
        }, 250);
        try {
          await fanOutSettled(context, options.signal);
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
        if (options.signal?.aborted) {
          throw new FeedctlError(
            'INTERRUPTED',
            'the replay was interrupted; every post so far is delivered all the same',
            { cause: error },
          );
        }
        throw error;
      } finally {
        await forgetRun(db, run).catch(() => {});
      }
    },
  );
}

type NewPost = Omit<ImportedPost, 'eventId'>;

/** The posts of the file in batches of 4,000, without its first `skip` rows. */
async function* postBatches(path: string, skip: number): AsyncGenerator<NewPost[]> {
  const ranks = new Ranks();
  const parse = (fields: string[]): NewPost => {
    const row = parseRow(fields);
    const id = importedId(row.second, ranks.next(row.second));
    return { id, authorId: row.actor, body: `${row.kind} @${row.target}`, createdAtMs: row.second * 1000 };
  };
  let toSkip = skip;
  let pending: NewPost[] = [];
  for await (const chunk of readRecords(path, parse)) {
    const skipped = Math.min(toSkip, chunk.length);
    toSkip -= skipped;
    pending = pending.concat(chunk.slice(skipped));
    while (pending.length >= POSTS_A_BATCH) yield pending.splice(0, POSTS_A_BATCH);
  }
  if (pending.length > 0) yield pending;
}

async function postAll(
  context: SocialContext,
  path: string,
  options: ReplayOptions & { run: number; operation: Operation<{ rows: number }>; total: number },
): Promise<{ posts: number; merged: number }> {
  const { run, operation, signal } = options;
  const celebrities = await pulledAuthors(context);
  const inFlight = new Set<Promise<void>>();
  let failure: unknown;
  let posts = 0;
  let merged = 0;

  const post = async (batch: NewPost[], before: Promise<void>, rows: number) => {
    const eventIds = await context.ids.take(batch.length);
    const events = await importPosts(
      context.db,
      batch.map((row, i) => ({ ...row, eventId: eventIds[i]! })),
    );
    await dispatchWhenRoom(context, events, { run, committedAt: Date.now() }, signal);
    posts += events.length;
    for (const event of events) if (celebrities.has(event.aggregateId)) merged += 1;
    // Noted in order: what counts as done has no gap that a resumed run would pass over.
    await before;
    if (failure) return;
    await noteProgress(context.db, operation.id, { rows });
    options.onProgress?.({ phase: 'posting', rows, total: options.total, deliveries: 0 });
  };

  let rows = operation.progress?.rows ?? 0;
  let last: Promise<void> = Promise.resolve();
  try {
    for await (const batch of postBatches(path, rows)) {
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

/** A full queue refuses: the replay waits, and publishes then. */
async function dispatchWhenRoom(
  context: SocialContext,
  events: readonly EventRef[],
  header: { run: number; committedAt: number },
  signal?: AbortSignal,
): Promise<void> {
  for (;;) {
    try {
      return await dispatch(context.db, context.bus, events, header);
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
    const events = (await context.bus.depths()).find((depth) => depth.queue === 'events');
    if (!events || events.ready <= MAX_BACKLOG) return;
    await sleep(20, undefined, signal ? { signal } : {});
  }
}
