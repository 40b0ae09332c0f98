import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus, Consumer, Delivery, QueueName } from '../bus/bus.ts';
import { failDelivery, halves } from '../bus/failDelivery.ts';
import type { FeedChanges } from '../cache/changes.ts';
import { copyIn } from '../database/copy.ts';
import type { Database, Session } from '../database/database.ts';
import { isDuplicate } from '../database/errors.ts';
import type { Notifier } from '../live/notifier.ts';
import type { LaneName } from '../model/lanes.ts';
import { idsOfPosts, type NamedIds } from '../model/messageIds.ts';
import { type MessageHeader, ROW_BYTES, rowAuthor, rowPost, rowUser } from '../model/messages.ts';
import { decodeRows, readRows } from '../model/rowsMessage.ts';
import { isTransient } from '../resilience/classify.ts';
import { DATABASE_WORK } from '../resilience/limits.ts';
import type { Clock } from '../store/databaseClock.ts';
import { insertFeedRows } from '../store/feeds.ts';
import { followingPairs } from '../store/follows.ts';
import { alivePostIds } from '../store/posts.ts';
import { recordRun } from '../store/runs.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { beginBatch, decodeTraces, mergedTraces, type Tracing } from '../telemetry/tracing.ts';
import { runConcurrently } from '../util/parallel.ts';
import { Throttle } from '../util/throttle.ts';
import { type CheckedMessage, CopyBuffer, type ShardRows } from './copyBuffer.ts';
import type { Lanes } from './lanes.ts';

/** Rows of one COPY: about 60 ms. Half as many wrote 10% less a second, twice as many no more. */
const ROWS_A_BATCH = 32_768;
/**
 * Batches in flight, each one transaction: two are written on two cores while the third commits and
 * notifies.
 */
const PARALLEL = 3;
/** Bulk batches in flight: the third place is always free for live rows. */
const PARALLEL_BULK = 2;
/**
 * Bulk batches are shorter, because this process does nothing else while it expands one. Even shorter ones
 * spend more on transactions and acks.
 */
const LANES = {
  live: { queue: 'rows.live', prefetch: 32, rowsABatch: ROWS_A_BATCH },
  bulk: { queue: 'rows.bulk', prefetch: 16, rowsABatch: 16_384 },
} as const;
/**
 * On Citus a batch is sorted by shard, and each shard is written by a COPY. Each COPY costs the
 * coordinator some milliseconds, so batches are big, and several shards of a batch are written at
 * the same time.
 */
const SHARDED = { rowsABatch: 65_536, concurrency: 4, prefetch: 64 } as const;
/** Time that the first message of a batch waits for others. */
const LINGER_MS = 2;

/** Longer than a consumer takes to stop, so that a requeued message does not return to it. */
const REQUEUE_DELAY_MS = 1_000;

const TRANSACTION_OPTIONS = { deadlineMs: DATABASE_WORK.batchMs };

const COPY = 'copy feed_items (user_id, post_id, author_id) from stdin (format binary)';

export interface WriterContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly clock: Clock;
  /** Without lanes nothing is ever paused or throttled. */
  readonly lanes?: Lanes | undefined;
  readonly changes: FeedChanges;
  readonly notifier: Notifier;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
  readonly tracing?: Tracing | undefined;
  /** Called with the new rows and the first deliveries of each batch. */
  readonly onWritten?: (rows: number, first: readonly FirstDelivery[]) => void;
  /**
   * Called with the messages of each written batch: a benchmark writes the same rows by COPY alone.
   */
  readonly onBatch?: ((messages: CheckedMessage[]) => void) | undefined;
}

/** A message of which at least some rows are new. */
export interface FirstDelivery {
  readonly lane: LaneName;
  /** Number of new rows. */
  readonly rows: number;
  /** Milliseconds since the commit of its oldest post. */
  readonly tookMs: number;
}

interface Part extends CheckedMessage {
  readonly delivery: Delivery;
  readonly header: MessageHeader;
}

/**
 * Writes feed rows: coalesces messages into batches, commits, notifies caches and sockets, and acks
 * last.
 */
export async function startWriter(context: WriterContext): Promise<Consumer> {
  const { distributed } = await context.db.sharding();
  const live = new WaitingMessages(distributed ? SHARDED.rowsABatch : LANES.live.rowsABatch);
  const bulk = new WaitingMessages(distributed ? SHARDED.rowsABatch : LANES.bulk.rowsABatch);
  const idle = Array.from({ length: PARALLEL }, () => new CopyBuffer());

  let bulkBatches = 0;
  const due = (): WaitingMessages | undefined =>
    [live, bulk].find((lane) => lane.isDue && (lane === live || bulkBatches < PARALLEL_BULK));
  const work = async (rows: CopyBuffer) => {
    for (let lane = due(); lane; lane = due()) {
      if (lane === bulk) bulkBatches += 1;
      if (lane.rows < lane.rowsABatch) await sleep(LINGER_MS);
      const batch = lane.take();
      if (batch.length > 0) await writeParts(context, batch, rows);
      if (lane === bulk) bulkBatches -= 1;
    }
    idle.push(rows);
    wakeLater();
  };
  /** Wakes a throttled lane that has messages when it may write again. */
  let timer: NodeJS.Timeout | undefined;
  const wakeLater = () => {
    clearTimeout(timer);
    const waits = [live, bulk].filter((lane) => !lane.isEmpty).map((lane) => lane.pace.waitMs);
    if (waits.length === 0) return;
    timer = setTimeout(
      () => {
        if (idle.length > 0) void work(idle.pop()!);
      },
      Math.ceil(Math.min(...waits)),
    );
  };
  const { lanes } = context;
  const setRates = () => {
    live.pace.setRate(lanes?.rate('live'));
    bulk.pace.setRate(lanes?.rate('bulk'));
    wakeLater();
  };
  lanes?.onChange(setRates);
  setRates();
  const consume = async (name: LaneName, prefetch: number, lane: WaitingMessages): Promise<Consumer> => {
    const open = () => consumeLane(LANES[name].queue, prefetch, lane);
    return lanes ? lanes.consume([name], open) : open();
  };
  const consumeLane = async (
    queue: QueueName,
    prefetch: number,
    lane: WaitingMessages,
  ): Promise<Consumer> => {
    let stopping = false;
    const consumer = await context.bus.consume({ queues: [queue], prefetch }, (deliveries) => {
      for (const delivery of deliveries) {
        if (stopping && lane.pace.isLimited) {
          requeue(delivery);
          continue;
        }
        try {
          const { records, ...header } = readRows(delivery.body);
          lane.add({ delivery, header, count: records, body: delivery.body });
        } catch (error) {
          failDelivery(delivery, error, context);
        }
      }
      while (idle.length > 0 && due()) {
        void work(idle.pop()!);
        if (lane.rows < lane.rowsABatch) break;
      }
      if (!lane.isDue) wakeLater();
    });
    return {
      async stop(deadlineMs) {
        stopping = true;
        const stopped = consumer.stop(deadlineMs);
        // Waiting messages would be written only as fast as the throttle allows.
        if (lane.pace.isLimited) for (const { delivery } of lane.takeAll()) requeue(delivery);
        await stopped;
      },
    };
  };
  const consumers = await Promise.all([
    consume('live', distributed ? SHARDED.prefetch : LANES.live.prefetch, live),
    consume('bulk', LANES.bulk.prefetch, bulk),
  ]);
  return {
    async stop(deadlineMs) {
      await Promise.all(consumers.map((consumer) => consumer.stop(deadlineMs)));
      clearTimeout(timer);
    },
  };
}

const requeue = (delivery: Delivery): void => delivery.retry(REQUEUE_DELAY_MS, { counts: false });

/** Messages of one lane that wait for a batch. */
class WaitingMessages {
  readonly rowsABatch: number;
  readonly pace = new Throttle();
  #parts: Part[] = [];
  rows = 0;

  constructor(rowsABatch: number) {
    this.rowsABatch = rowsABatch;
  }

  get isEmpty(): boolean {
    return this.#parts.length === 0;
  }

  /** True if messages wait and the throttle allows to write. */
  get isDue(): boolean {
    return !this.isEmpty && this.pace.waitMs === 0;
  }

  add(part: Part): void {
    this.#parts.push(part);
    this.rows += part.count;
  }

  takeAll(): Part[] {
    this.rows = 0;
    return this.#parts.splice(0);
  }

  /**
   * Removes and returns the oldest messages, up to a batch. A batch notifies sockets of all its
   * messages or of none.
   */
  take(): Part[] {
    // Another batch may have begun while this one waited for more messages.
    if (!this.isDue) return [];
    const maxRows = this.pace.maxBatch(this.rowsABatch);
    let rows = 0;
    let count = 0;
    for (const part of this.#parts) {
      if (rows >= maxRows || part.header.feedsOnly !== this.#parts[0]!.header.feedsOnly) break;
      rows += part.count;
      count += 1;
    }
    this.rows -= rows;
    this.pace.spend(rows);
    return this.#parts.splice(0, count);
  }
}

/**
 * Writes a batch. After a permanent failure the batch is halved until the faulty message is alone:
 * one faulty message of n costs about 2 log n more tries, and all others are written.
 */
async function writeParts(context: WriterContext, parts: Part[], batchRows: CopyBuffer): Promise<void> {
  const { tracing, log } = context;
  const { queue } = parts[0]!.delivery;
  const from = tracing && mergedTraces(parts.map(({ delivery }) => decodeTraces(delivery.traces)));
  const spans =
    from &&
    beginBatch(tracing, { batch: `process ${queue}`, each: 'write rows' }, from, {
      'messaging.destination.name': queue,
      'messaging.batch.message_count': parts.length,
      'feedctl.batch.rows': parts.reduce((sum, { count }) => sum + count, 0),
    });
  const isEarlier = hasEarlier(parts);
  try {
    const sharding = await context.db.sharding();
    const keep = isEarlier ? (rows: Buffer) => trueRows(context.db, rows) : undefined;
    const rows = sharding.distributed
      ? await writeShards(context, parts, await keptShards(batchRows.expandByShard(parts, sharding), keep))
      : await writeBatch(context, parts, await kept(batchRows.expand(parts), keep));
    await context.changes.push(rows);
    const header = { ...parts[0]!.header, ...(laneOf(parts) === 'bulk' && { bulk: true as const }) };
    if (!header.feedsOnly) await context.notifier.toRecipients(rows, header, spans?.traces);
    spans?.end({ each: (id) => ({ 'feedctl.post.id': String(id) }) });
    log.debug?.({ queue, messages: parts.length, ...idsOfParts(parts) }, 'rows written');
    context.onBatch?.(parts);
    for (const part of parts) part.delivery.ack();
    context.metrics?.count('feedctl_bus_handled_total', parts.length, { queue });
  } catch (error) {
    spans?.end({ error });
    if (!isEarlier && hasEarlier(parts)) {
      await writeParts(context, parts, batchRows);
    } else if (parts.length === 1 || isTransient(error)) {
      for (const part of parts) failDelivery(part.delivery, error, context);
    } else {
      for (const half of halves(parts)) await writeParts(context, half, batchRows);
    }
  }
}

const hasEarlier = (parts: readonly Part[]): boolean => parts.some(({ delivery }) => delivery.earlier);

/**
 * Returns a check for the beginning of each transaction: by then a session of a server that has taken over
 * has been confirmed.
 */
function historyCheck(parts: readonly Part[]): () => void {
  const before = hasEarlier(parts);
  return () => {
    if (!before && hasEarlier(parts))
      throw new Error('the database has another history since the batch began');
  };
}

type Keep = ((rows: Buffer) => Promise<Buffer>) | undefined;

const kept = async (rows: Buffer[], keep: Keep): Promise<Buffer[]> =>
  keep ? Promise.all(rows.map((part) => keep(part))) : rows;

async function keptShards(groups: ShardRows[], keep: Keep): Promise<ShardRows[]> {
  if (!keep) return groups;
  const all: ShardRows[] = [];
  for (const { rows, counts } of groups) {
    let at = 0;
    const parts = await Promise.all(
      counts.map((count) => {
        at += count * ROW_BYTES;
        return keep(rows.subarray(at - count * ROW_BYTES, at));
      }),
    );
    all.push({ rows: Buffer.concat(parts), counts: parts.map((part) => part.length / ROW_BYTES) });
  }
  return all;
}

/** Returns the rows of posts that the database has, for readers who follow the author. */
async function trueRows(db: Database, rows: Buffer): Promise<Buffer> {
  const entries = Array.from({ length: rows.length / ROW_BYTES }, (_, i) => {
    const at = i * ROW_BYTES;
    const [followerId, followeeId] = [rowUser(rows, at), rowAuthor(rows, at)];
    return { followerId, followeeId, postId: rowPost(rows, at), row: rows.subarray(at, at + ROW_BYTES) };
  });
  const posts = new Map(entries.map(({ postId, followeeId }) => [postId, { postId, authorId: followeeId }]));
  const alive = await alivePostIds(db, [...posts.values()]);
  const present = entries.filter(({ postId }) => alive.has(postId));
  const sharding = await db.sharding();
  const groups = present.length > 0 ? sharding.group(present, ({ followerId }) => followerId) : [];
  const following = await runConcurrently(groups, SHARDED.concurrency, (group) => followingPairs(db, group));
  return Buffer.concat(following.flat().map(({ row }) => row));
}

/**
 * Writes a batch on Citus and returns its rows. Every COPY is a transaction of one shard. After
 * them the caches are notified of committed rows and the import counts them. The messages are acked
 * only if every shard was written.
 *
 * After a crash in between the messages are redelivered, their rows exist, and the caches are
 * notified then. The import does not count these rows.
 */
async function writeShards(context: WriterContext, parts: Part[], groups: ShardRows[]): Promise<Buffer[]> {
  const rows = groups.map((group) => group.rows);
  const startedAt = performance.now();
  const check = historyCheck(parts);
  let failure: unknown;
  const written = await runConcurrently(groups, SHARDED.concurrency, (group) =>
    writeShard(context, group, check).catch((error) => {
      failure ??= error;
      return parts.map(() => 0);
    }),
  );
  const fresh = parts.map((_, i) => written.reduce((sum, counts) => sum + counts[i]!, 0));
  await context.db.transaction(async (session) => {
    await context.changes.writing(session, rows);
    await recordRun(
      session,
      parts.map((part, i) => ({ ...part.header, rows: part.count, deliveries: fresh[i]! })),
      context.clock.now(),
    );
  }, TRANSACTION_OPTIONS);
  record(context, parts, { fresh, ms: performance.now() - startedAt });
  if (failure) throw failure;
  return rows;
}

/** Writes the rows of one shard. Returns the number of new rows of each message. */
async function writeShard(
  context: WriterContext,
  { rows, counts }: ShardRows,
  check: () => void,
): Promise<readonly number[]> {
  try {
    await context.db.withSession((session) => {
      check();
      return copyIn(session, COPY, [rows]);
    }, TRANSACTION_OPTIONS);
    return counts;
  } catch (error) {
    if (!isDuplicate(error)) throw error;
  }
  return context.db.transaction(async (session) => {
    check();
    const fresh: number[] = [];
    let at = 0;
    for (const count of counts) {
      const end = at + count * ROW_BYTES;
      fresh.push(count > 0 ? await insertFeedRows(session, decodeAll(rows.subarray(at, end)), true) : 0);
      at = end;
    }
    return fresh;
  });
}

/** Writes a batch in one transaction. `rows`: the rows of each message, which are returned. */
async function writeBatch(context: WriterContext, parts: Part[], rows: Buffer[]): Promise<Buffer[]> {
  const startedAt = performance.now();
  const check = historyCheck(parts);
  const done = (fresh: readonly number[]) =>
    record(context, parts, { fresh, ms: performance.now() - startedAt });
  const commit = async (session: Session, written: number[]) => {
    await context.changes.writing(session, rows);
    await recordRun(
      session,
      parts.map((part, i) => ({ ...part.header, rows: part.count, deliveries: written[i]! })),
      context.clock.now(),
    );
  };
  try {
    const all = rows.map(({ length }) => length / ROW_BYTES);
    await context.db.transaction(async (session) => {
      check();
      await copyIn(session, COPY, rows);
      await commit(session, all);
    }, TRANSACTION_OPTIONS);
    done(all);
    return rows;
  } catch (error) {
    // Redelivered, or backfilled meanwhile: only this batch is written the slow way.
    if (!isDuplicate(error)) throw error;
  }
  const written = await context.db.transaction(async (session) => {
    check();
    const counts: number[] = [];
    for (const part of rows) counts.push(await insertFeedRows(session, decodeAll(part), false));
    await commit(session, counts);
    return counts;
  }, TRANSACTION_OPTIONS);
  done(written);
  return rows;
}

function idsOfParts(parts: readonly Part[]): NamedIds {
  return idsOfPosts(
    parts.flatMap(({ body }) =>
      decodeRows(body).rows.flatMap(({ postIds }) => postIds.map((postId) => ({ postId }))),
    ),
  );
}

/** Returns the lane of a batch: all its messages are of one. */
const laneOf = (parts: readonly Part[]): LaneName =>
  parts[0]!.delivery.queue === LANES.bulk.queue ? 'bulk' : 'live';

/** Counts a batch in metrics and statistics alike. `fresh`: new rows, by message. */
function record(
  { clock, metrics, onWritten }: WriterContext,
  parts: readonly Part[],
  { fresh, ms }: { fresh: readonly number[]; ms: number },
): void {
  const now = clock.now();
  const lane = laneOf(parts);
  // Redispatched and redelivered messages may be of any age: their latency is not recorded.
  const first = parts.flatMap(({ header }, i): FirstDelivery[] =>
    header.feedsOnly || fresh[i] === 0
      ? []
      : [{ lane, rows: fresh[i]!, tookMs: Math.max(0, now - header.committedAt) }],
  );
  const rows = fresh.reduce((sum, count) => sum + count, 0);
  onWritten?.(rows, first);
  metrics?.count('feedctl_fanout_rows_total', rows);
  metrics?.observe('feedctl_fanout_batch_seconds', ms / 1000);
  for (const { tookMs } of first) metrics?.observe('feedctl_fanout_latency_seconds', tookMs / 1000, { lane });
}

function decodeAll(rows: Buffer): { users: number[]; posts: number[]; authors: number[] } {
  const users: number[] = [];
  const posts: number[] = [];
  const authors: number[] = [];
  for (let at = 0; at < rows.length; at += ROW_BYTES) {
    users.push(rowUser(rows, at));
    posts.push(rowPost(rows, at));
    authors.push(rowAuthor(rows, at));
  }
  return { users, posts, authors };
}
