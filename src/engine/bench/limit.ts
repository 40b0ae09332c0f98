import { copyIn } from '../database/copy.ts';
import { Database } from '../database/database.ts';
import type { Sharding } from '../database/sharding.ts';
import { type CheckedMessage, CopyBuffer } from '../fanout/copyBuffer.ts';
import { ROW_BYTES } from '../model/messages.ts';
import type { LatencyMs } from '../store/runs.ts';
import { runConcurrently } from '../util/parallel.ts';

export interface Measured {
  readonly rows: number;
  readonly seconds: number;
}

export async function measure(work: () => Promise<number>): Promise<Measured> {
  const startedAt = performance.now();
  const rows = await work();
  return { rows, seconds: (performance.now() - startedAt) / 1000 };
}

export const rowsPerSecond = (measured: Measured): number => measured.rows / measured.seconds;

/** Rounds to three decimal places. */
export const thousandths = (value: number): number => Math.round(value * 1_000) / 1_000;

/** The run whose value is the median; the upper one of two. */
export const middleRun = <T>(runs: readonly T[], value: (run: T) => number): T =>
  runs.toSorted((a, b) => value(a) - value(b))[runs.length >> 1]!;

export function percentiles(times: readonly number[]): LatencyMs {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) =>
    thousandths(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

/** The rows of batches as the writer copied them: one part a message, or one part a shard on Citus. */
export function rowsOfBatches(batches: readonly CheckedMessage[][], sharding: Sharding): Buffer[][] {
  return batches.flatMap((messages) => {
    const batchRows = new CopyBuffer();
    if (!sharding.distributed) return [batchRows.expand(messages)];
    return batchRows.expandByShard(messages, sharding).map(({ rows }) => [rows]);
  });
}

/** Copies the rows in the same batches and order as the writer, and returns their number. */
export async function rawCopy(
  url: string,
  table: string,
  batches: readonly Buffer[][],
  connections: number,
): Promise<number> {
  const db = new Database(url, { maxSessions: connections, applicationName: 'feedctl bench' });
  const copy = `copy ${table} (user_id, post_id, author_id) from stdin (format binary)`;
  let bytes = 0;
  try {
    await runConcurrently(batches, connections, async (rows) => {
      await db.withSession((session) => copyIn(session, copy, rows));
      bytes += rows.reduce((sum, part) => sum + part.length, 0);
    });
  } finally {
    await db.close();
  }
  return bytes / ROW_BYTES;
}
