import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus, Consumer, Delivery } from '../bus/bus.ts';
import { giveBack, halves } from '../bus/giveBack.ts';
import { ChangedFeeds } from '../cache/invalidation.ts';
import type { Notifier } from '../live/notifier.ts';
import {
  decodeRows,
  HEADER_BYTES,
  type MessageHeader,
  ROW_BYTES,
  rowAuthor,
  rowPost,
  rowUser,
} from '../model/messages.ts';
import { isPassing } from '../resilience/failure.ts';
import { copyIn } from '../store/copy.ts';
import { type Database, isDuplicate, type Session } from '../store/database.ts';
import { insertFeedRows } from '../store/feeds.ts';
import { recordRun } from '../store/runs.ts';
import type { Log } from '../telemetry/log.ts';

/** Rows of one COPY: past some 10,000 a bigger one is not faster, only later. */
const ROWS_A_BATCH = 16_384;
/** One transaction each. More than the machine's cores only queue up in the server. */
const PARALLEL = 2;
const PREFETCH = 32;
/** How long the first message of a batch waits for company. */
const LINGER_MS = 2;

const COPY = 'copy feed_items (user_id, post_id, author_id) from stdin (format binary)';

export interface WriterContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly notifier: Notifier;
  readonly log: Log;
  readonly onWritten?: (rows: number) => void;
  /** Sees each batch as it was given to COPY: a benchmark gives the same to COPY alone. */
  readonly onBatch?: ((rows: Buffer[]) => void) | undefined;
}

interface Part {
  readonly delivery: Delivery;
  readonly header: MessageHeader;
  readonly count: number;
  readonly rows: Buffer;
}

/** Writes feed rows: coalesces messages into batches, commits, tells caches and sockets, and acks last. */
export async function startWriter(context: WriterContext): Promise<Consumer> {
  const waiting: Part[] = [];
  let waitingRows = 0;
  let idle = PARALLEL;

  const take = (): Part[] => {
    const batch: Part[] = [];
    let rows = 0;
    while (waiting.length > 0 && (rows === 0 || rows + waiting[0]!.count <= ROWS_A_BATCH)) {
      const part = waiting.shift()!;
      rows += part.count;
      batch.push(part);
    }
    waitingRows -= rows;
    return batch;
  };
  const work = async () => {
    while (waiting.length > 0) {
      if (waitingRows < ROWS_A_BATCH) await sleep(LINGER_MS);
      const batch = take();
      if (batch.length > 0) await writeParts(context, batch);
    }
    idle += 1;
  };
  return context.bus.consume({ queues: ['rows.live', 'rows.bulk'], prefetch: PREFETCH }, (deliveries) => {
    for (const delivery of deliveries) {
      try {
        const { records, ...header } = decodeRows(delivery.body);
        waiting.push({ delivery, header, count: records, rows: delivery.body.subarray(HEADER_BYTES) });
        waitingRows += records;
      } catch (error) {
        giveBack(delivery, error, context.log);
      }
    }
    while (idle > 0 && waiting.length > 0) {
      idle -= 1;
      void work();
      if (waitingRows < ROWS_A_BATCH) break;
    }
  });
}

/**
 * A batch that cannot be written for a reason that stays is halved until the message that is at fault is alone: one in
 * n costs some 2 log n more tries, and everything else is written.
 */
async function writeParts(context: WriterContext, parts: Part[]): Promise<void> {
  try {
    await writeBatch(context, parts);
    await context.notifier.toRecipients(
      parts.map((part) => part.rows),
      parts[0]!.header,
    );
    for (const part of parts) part.delivery.ack();
  } catch (error) {
    if (parts.length === 1 || isPassing(error)) {
      for (const part of parts) giveBack(part.delivery, error, context.log);
    } else {
      for (const half of halves(parts)) await writeParts(context, half);
    }
  }
}

async function writeBatch(context: WriterContext, parts: Part[]): Promise<void> {
  const changed = new ChangedFeeds();
  for (const { rows } of parts)
    for (let at = 0; at < rows.length; at += ROW_BYTES) changed.add(rowUser(rows, at));
  const commit = async (session: Session, written: number[]) => {
    await changed.notify(session);
    await recordRun(
      session,
      parts.map((part, i) => ({ ...part.header, deliveries: written[i]! })),
    );
  };
  try {
    await context.db.transaction(async (session) => {
      await copyIn(
        session,
        COPY,
        parts.map((part) => part.rows),
      );
      await commit(
        session,
        parts.map((part) => part.count),
      );
    });
    context.onBatch?.(parts.map((part) => part.rows));
    context.onWritten?.(parts.reduce((sum, part) => sum + part.count, 0));
    return;
  } catch (error) {
    // Delivered twice, or backfilled meanwhile: this batch, and only this one, goes the slow way.
    if (!isDuplicate(error)) throw error;
  }
  const written = await context.db.transaction(async (session) => {
    const counts: number[] = [];
    for (const part of parts) counts.push(await insertFeedRows(session, decodeAll(part.rows)));
    await commit(session, counts);
    return counts;
  });
  context.onWritten?.(written.reduce((sum, count) => sum + count, 0));
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
