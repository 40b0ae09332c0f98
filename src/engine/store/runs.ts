import type { Queryable } from '../database/types.ts';
import { firstIdAt } from '../model/ids.ts';
import type { MessageHeader } from '../model/messages.ts';
import { tenths } from '../util/numbers.ts';

const DAY_MS = 86_400_000;

/** Rows of one message of an import. */
export interface RunPart extends MessageHeader {
  /** Rows that feeds have now. */
  readonly rows: number;
  /** Those of them that are new. */
  readonly deliveries: number;
}

/**
 * Records the rows of a batch for the imports that its messages belong to. It runs in the
 * transaction of the batch, so each delivery counts once. `now`: unix milliseconds.
 */
export async function recordRun(session: Queryable, parts: readonly RunPart[], now: number): Promise<void> {
  const counted = parts.filter((part) => part.importId !== 0);
  if (counted.length === 0) return;
  await session.query(
    `insert into run_batches (run, deliveries, latency_ms, rows)
     select * from unnest($1::bigint[], $2::integer[], $3::float8[], $4::integer[])`,
    [
      counted.map((part) => part.importId),
      counted.map((part) => part.deliveries),
      counted.map((part) => now - part.committedAt),
      counted.map((part) => part.rows),
    ],
  );
}

export interface LatencyMs {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export async function runDeliveries(db: Queryable, run: number): Promise<number> {
  const { rows } = await db.query<{ deliveries: number }>(
    'select coalesce(sum(deliveries), 0)::bigint as deliveries from run_batches where run = $1',
    [run],
  );
  return rows[0]!.deliveries;
}

/** Returns how many rows of an import feeds have, new or not. */
export async function runRows(db: Queryable, run: number): Promise<number> {
  const { rows } = await db.query<{ rows: number }>(
    'select coalesce(sum(coalesce(rows, deliveries)), 0)::bigint as rows from run_batches where run = $1',
    [run],
  );
  return rows[0]!.rows;
}

/**
 * Returns milliseconds from the commit of a post to the commit of its row, over all rows of the
 * import.
 */
export async function runLatency(db: Queryable, run: number): Promise<LatencyMs> {
  const { rows } = await db.query<{ share: number; latency_ms: number }>(
    `select latency_ms, sum(deliveries) over (order by latency_ms)::float8 / sum(deliveries) over () as share
     from run_batches where run = $1 and deliveries > 0 order by latency_ms`,
    [run],
  );
  const at = (share: number) => tenths(rows.find((row) => row.share >= share)?.latency_ms ?? 0);
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

/** Deletes the rows of an import, which are useless after its end. */
export async function forgetRun(db: Queryable, run: number): Promise<void> {
  await db.query('delete from run_batches where run = $1', [run]);
}

/** Deletes rows older than a day. Deliveries of an interrupted import arrive after its end. */
export async function forgetOldRuns(db: Queryable): Promise<void> {
  await db.query('delete from run_batches where run < $1', [firstIdAt(Date.now() - DAY_MS)]);
}
