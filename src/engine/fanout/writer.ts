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
import { insertFeedRows } from '../store/feeds.ts';
import { recordRun } from '../store/runs.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { beginBatch, decodeTraces, mergedTraces, type Tracing } from '../telemetry/tracing.ts';
import { runConcurrently } from '../util/parallel.ts';
import { Throttle } from '../util/throttle.ts';
import { type CheckedMessage, CopyBuffer, type ShardRows } from './copyBuffer.ts';
import type { Lanes } from './lanes.ts';

/** Rows of one COPY, some 60 ms of writing: half as many gave a tenth less, twice as many no more. */
const ROWS_A_BATCH = 32_768;
/** One transaction each: two are written on two cores while the third commits, and is told to caches and sockets. */
const PARALLEL = 3;
/** The bulk lane's batches are short, and begun when no live rows wait: what comes live waits for one of them at most. */
const LANES = {
  live: { queue: 'rows.live', prefetch: 32, rowsABatch: ROWS_A_BATCH },
  bulk: { queue: 'rows.bulk', prefetch: 16, rowsABatch: 8_192 },
} as const;
/**
 * On Citus a batch is sorted by shard and written by a COPY for each. A COPY costs the coordinator some milliseconds
 * of its own, so batches are big, and several shards are written at a time for each batch.
 */
const SHARDED = { rowsABatch: 65_536, lanes: 4, prefetch: 64 } as const;
/** How long the first message of a batch waits for company. */
const LINGER_MS = 2;

/** Longer than it takes to let a queue go: a message that is given back does not come again at once. */
const PASS_ON_MS = 1_000;

const TRANSACTION_OPTIONS = { deadlineMs: DATABASE_WORK.batchMs };

const COPY = 'copy feed_items (user_id, post_id, author_id) from stdin (format binary)';

export interface WriterContext {
  readonly db: Database;
  readonly bus: Bus;
  /** Without them nothing is ever paused or slowed down. */
  readonly lanes?: Lanes | undefined;
  readonly changes: FeedChanges;
  readonly notifier: Notifier;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
  readonly tracing?: Tracing | undefined;
  /** Told of each batch: its new rows, and what in it was a first delivery. */
  readonly onWritten?: (rows: number, first: readonly FirstDelivery[]) => void;
  /** Sees the messages of each batch that is written: a benchmark gives the same rows to COPY alone. */
  readonly onBatch?: ((messages: CheckedMessage[]) => void) | undefined;
}

/** A message whose rows, some of them at least, were not there before. */
export interface FirstDelivery {
  readonly lane: LaneName;
  /** New ones. */
  readonly rows: number;
  /** Milliseconds from the commit of its oldest post. */
  readonly tookMs: number;
}

interface Part extends CheckedMessage {
  readonly delivery: Delivery;
  readonly header: MessageHeader;
}

/** Writes feed rows: coalesces messages into batches, commits, tells caches and sockets, and acks last. */
export async function startWriter(context: WriterContext): Promise<Consumer> {
  const { distributed } = await context.db.sharding();
  const live = new Waiting(distributed ? SHARDED.rowsABatch : LANES.live.rowsABatch);
  const bulk = new Waiting(distributed ? SHARDED.rowsABatch : LANES.bulk.rowsABatch);
  const idle = Array.from({ length: PARALLEL }, () => new CopyBuffer());

  const due = (): Waiting | undefined => [live, bulk].find((lane) => lane.isDue);
  const work = async (rows: CopyBuffer) => {
    for (let lane = due(); lane; lane = due()) {
      if (lane.rows < lane.rowsABatch) await sleep(LINGER_MS);
      const batch = lane.take();
      if (batch.length > 0) await writeParts(context, batch, rows);
    }
    idle.push(rows);
    wakeLater();
  };
  /** One that is slowed down and has messages is gone on with when it may be. */
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
  const consume = async (name: LaneName, prefetch: number, lane: Waiting): Promise<Consumer> => {
    const open = () => consumeLane(LANES[name].queue, prefetch, lane);
    return lanes ? lanes.consume([name], open) : open();
  };
  const consumeLane = async (queue: QueueName, prefetch: number, lane: Waiting): Promise<Consumer> => {
    let stopping = false;
    const consumer = await context.bus.consume({ queues: [queue], prefetch }, (deliveries) => {
      for (const delivery of deliveries) {
        if (stopping && lane.pace.isLimited) {
          passOn(delivery);
          continue;
        }
        try {
          const { records, ...header } = readRows(delivery.body);
          lane.add({ delivery, header, count: records, body: delivery.body });
        } catch (error) {
          failDelivery(delivery, error, context);
        }
      }
      while (idle.length > 0 && lane.isDue) {
        void work(idle.pop()!);
        if (lane.rows < lane.rowsABatch) break;
      }
      if (!lane.isDue) wakeLater();
    });
    return {
      async stop(deadlineMs) {
        stopping = true;
        const stopped = consumer.stop(deadlineMs);
        // What waits for its turn would take as long as the lane is slow.
        if (lane.pace.isLimited) for (const { delivery } of lane.takeAll()) passOn(delivery);
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

const passOn = (delivery: Delivery): void => delivery.retry(PASS_ON_MS, { counts: false });

/** Messages of one lane that wait for a batch. */
class Waiting {
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

  /** It has messages, and may write now. */
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

  /** The oldest messages, until they are a batch. Sockets are told by the batch: of all of them, or of none. */
  take(): Part[] {
    // Others may have begun one while this one waited for company.
    if (!this.isDue) return [];
    const most = this.pace.maxBatch(this.rowsABatch);
    let rows = 0;
    let count = 0;
    for (const part of this.#parts) {
      if (rows >= most || part.header.feedsOnly !== this.#parts[0]!.header.feedsOnly) break;
      rows += part.count;
      count += 1;
    }
    this.rows -= rows;
    this.pace.spend(rows);
    return this.#parts.splice(0, count);
  }
}

/**
 * A batch that cannot be written for a reason that stays is halved until the message that is at fault is alone: one in
 * n costs some 2 log n more tries, and everything else is written.
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
  try {
    const sharding = await context.db.sharding();
    const rows = sharding.distributed
      ? await writeShards(context, parts, batchRows.expandByShard(parts, sharding))
      : await writeBatch(context, parts, batchRows.expand(parts));
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
    if (parts.length === 1 || isTransient(error)) {
      for (const part of parts) failDelivery(part.delivery, error, context);
    } else {
      for (const half of halves(parts)) await writeParts(context, half, batchRows);
    }
  }
}

/**
 * On Citus every COPY is a transaction of one shard; nothing spans two. After them the caches hear of what was
 * committed and the run is counted, and if that was all of it, the messages are acked. Whoever dies before leaves the
 * messages: they come again, find rows there, and the caches hear of them then; the run does not count those twice,
 * nor at all. Returns the rows.
 */
async function writeShards(context: WriterContext, parts: Part[], groups: ShardRows[]): Promise<Buffer[]> {
  const rows = groups.map((group) => group.rows);
  const startedAt = performance.now();
  let failure: unknown;
  const written = await runConcurrently(groups, SHARDED.lanes, (group) =>
    writeShard(context, group).catch((error) => {
      failure ??= error;
      return parts.map(() => 0);
    }),
  );
  const fresh = parts.map((_, i) => written.reduce((sum, counts) => sum + counts[i]!, 0));
  await context.db.transaction(async (session) => {
    await context.changes.writing(session, rows);
    await recordRun(
      session,
      parts.map((part, i) => ({ ...part.header, deliveries: fresh[i]! })),
    );
  }, TRANSACTION_OPTIONS);
  tell(context, parts, { fresh, ms: performance.now() - startedAt });
  if (failure) throw failure;
  return rows;
}

/** Returns how many rows of each part are new. */
async function writeShard(context: WriterContext, { rows, counts }: ShardRows): Promise<readonly number[]> {
  try {
    await context.db.withSession((session) => copyIn(session, COPY, [rows]), TRANSACTION_OPTIONS);
    return counts;
  } catch (error) {
    if (!isDuplicate(error)) throw error;
  }
  return context.db.transaction(async (session) => {
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

/** `rows`: those of each part. Returns them. */
async function writeBatch(context: WriterContext, parts: Part[], rows: Buffer[]): Promise<Buffer[]> {
  const startedAt = performance.now();
  const done = (fresh: readonly number[]) =>
    tell(context, parts, { fresh, ms: performance.now() - startedAt });
  const commit = async (session: Session, written: number[]) => {
    await context.changes.writing(session, rows);
    await recordRun(
      session,
      parts.map((part, i) => ({ ...part.header, deliveries: written[i]! })),
    );
  };
  try {
    const all = parts.map((part) => part.count);
    await context.db.transaction(async (session) => {
      await copyIn(session, COPY, rows);
      await commit(session, all);
    }, TRANSACTION_OPTIONS);
    done(all);
    return rows;
  } catch (error) {
    // Delivered twice, or backfilled meanwhile: this batch, and only this one, goes the slow way.
    if (!isDuplicate(error)) throw error;
  }
  const written = await context.db.transaction(async (session) => {
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

/** Of one batch, whose messages are of one lane. */
const laneOf = (parts: readonly Part[]): LaneName =>
  parts[0]!.delivery.queue === LANES.bulk.queue ? 'bulk' : 'live';

/** Metrics, and the figures of `top`, say the same: both hear of it here. `fresh`: new rows, by message. */
function tell(
  { metrics, onWritten }: WriterContext,
  parts: readonly Part[],
  { fresh, ms }: { fresh: readonly number[]; ms: number },
): void {
  const now = Date.now();
  const lane = laneOf(parts);
  // What is dispatched again is as old as it likes, and so is what is delivered again.
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
