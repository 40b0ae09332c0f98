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

export const round = (value: number): number => Math.round(value * 1000) / 1000;

export function percentiles(times: readonly number[]): LatencyMs {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

/** The rows of batches as the writer gave them to COPY, in one part for each message or, on Citus, for each shard. */
export function rowsOfBatches(batches: readonly CheckedMessage[][], sharding: Sharding): Buffer[][] {
  return batches.flatMap((messages) => {
    const batchRows = new CopyBuffer();
    if (!sharding.distributed) return [batchRows.expand(messages)];
    return batchRows.expandByShard(messages, sharding).map(({ rows }) => [rows]);
  });
}

/** The limit: COPY of the same rows, in the same batches and order, over as many connections as the writer has. */
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
