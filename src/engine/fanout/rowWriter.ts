import type { Delivery } from '../bus/bus.ts';
import type { FeedChanges } from '../cache/changes.ts';
import { copyIn } from '../database/copy.ts';
import type { Database, Session } from '../database/database.ts';
import { isDuplicate } from '../database/errors.ts';
import type { Notifier } from '../live/notifier.ts';
import type { LaneName } from '../model/lanes.ts';
import { idsOfPosts, type NamedIds } from '../model/messageIds.ts';
import { type MessageHeader, ROW_BYTES, rowAuthor, rowPost, rowUser } from '../model/messages.ts';
import { decodeRows } from '../model/rowsMessage.ts';
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
import type { CheckedMessage, CopyBuffer, ShardRows } from './copyBuffer.ts';

/** Shards of a batch that are written at the same time on Citus. */
const SHARD_CONCURRENCY = 4;

const TRANSACTION_OPTIONS = { deadlineMs: DATABASE_WORK.batchMs };

const COPY = 'copy feed_items (user_id, post_id, author_id) from stdin (format binary)';

/** Queue of the rows of each lane. */
export const ROWS_QUEUES = { live: 'rows.live', bulk: 'rows.bulk' } as const satisfies Record<
  LaneName,
  string
>;

export interface RowWriterContext {
  readonly db: Database;
  readonly clock: Clock;
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

/** Rows to write, and the delivery that they came with or were planned from. */
export interface RowsPart extends CheckedMessage {
  readonly delivery: Pick<Delivery, 'queue' | 'traces' | 'earlier'>;
  readonly header: MessageHeader;
}

/**
 * Writes rows of one lane in one transaction, and then notifies caches and sockets. Rows that were planned in
 * an earlier history of the database are checked first. Throws as the database does; it can be repeated.
 */
export async function writeRows(
  context: RowWriterContext,
  parts: readonly RowsPart[],
  buffer: CopyBuffer,
): Promise<void> {
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
      ? await writeShards(context, parts, await keptShards(buffer.expandByShard(parts, sharding), keep))
      : await writeBatch(context, parts, await kept(buffer.expand(parts), keep));
    await context.changes.push(rows);
    const header = { ...parts[0]!.header, ...(laneOf(parts) === 'bulk' && { bulk: true as const }) };
    if (!header.feedsOnly) await context.notifier.toRecipients(rows, header, spans?.traces);
    spans?.end({ each: (id) => ({ 'feedctl.post.id': String(id) }) });
    log.debug?.({ queue, messages: parts.length, ...idsOfParts(parts) }, 'rows written');
    context.onBatch?.([...parts]);
  } catch (error) {
    spans?.end({ error });
    if (isEarlier || !hasEarlier(parts)) throw error;
    // The database has another history since the batch began.
    await writeRows(context, parts, buffer);
  }
}

const hasEarlier = (parts: readonly RowsPart[]): boolean => parts.some(({ delivery }) => delivery.earlier);

/**
 * Returns a check for the beginning of each transaction: by then a session of a server that has taken over
 * has been confirmed.
 */
function historyCheck(parts: readonly RowsPart[]): () => void {
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
  const following = await runConcurrently(groups, SHARD_CONCURRENCY, (group) => followingPairs(db, group));
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
async function writeShards(
  context: RowWriterContext,
  parts: readonly RowsPart[],
  groups: ShardRows[],
): Promise<Buffer[]> {
  const rows = groups.map((group) => group.rows);
  const startedAt = performance.now();
  const check = historyCheck(parts);
  let failure: unknown;
  const written = await runConcurrently(groups, SHARD_CONCURRENCY, (group) =>
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
  context: RowWriterContext,
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
async function writeBatch(
  context: RowWriterContext,
  parts: readonly RowsPart[],
  rows: Buffer[],
): Promise<Buffer[]> {
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

function idsOfParts(parts: readonly RowsPart[]): NamedIds {
  return idsOfPosts(
    parts.flatMap(({ body }) =>
      decodeRows(body).rows.flatMap(({ postIds }) => postIds.map((postId) => ({ postId }))),
    ),
  );
}

/** Returns the lane of a batch: all its messages are of one. */
const laneOf = (parts: readonly RowsPart[]): LaneName =>
  parts[0]!.delivery.queue === ROWS_QUEUES.bulk ? 'bulk' : 'live';

/** Counts a batch in metrics and statistics alike. `fresh`: new rows, by message. */
function record(
  { clock, metrics, onWritten }: RowWriterContext,
  parts: readonly RowsPart[],
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
