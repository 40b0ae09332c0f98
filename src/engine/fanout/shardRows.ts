import { ROW_BYTES, ROW_USER } from '../model/messages.ts';
import type { Topology } from '../store/topology.ts';

/** Rows of one shard, and how many of them are of each part they came from. */
export interface ShardRows {
  readonly rows: Buffer;
  /** By the place of the part; its rows are in `rows` in the order of the parts. */
  readonly counts: readonly number[];
}

/** Sorts binary rows by the shard of their user: by arithmetic on eight bytes of each, as planned rows are. */
export function splitByShard(parts: readonly Buffer[], topology: Topology): ShardRows[] {
  const total = parts.reduce((sum, rows) => sum + rows.length, 0) / ROW_BYTES;
  const shards = new Uint16Array(total);
  const counts = topology.shards.map(() => new Array<number>(parts.length).fill(0));
  let nth = 0;
  for (const [part, rows] of parts.entries()) {
    for (let at = 0; at < rows.length; at += ROW_BYTES) {
      const shard = topology.shardOf(rows.readUInt32BE(at + ROW_USER), rows.readUInt32BE(at + ROW_USER + 4));
      shards[nth] = shard;
      counts[shard]![part]! += 1;
      nth += 1;
    }
  }
  const sorted = counts.map((of) =>
    Buffer.allocUnsafe(of.reduce((sum, count) => sum + count, 0) * ROW_BYTES),
  );
  const ends = new Uint32Array(sorted.length);
  nth = 0;
  for (const rows of parts) {
    for (let at = 0; at < rows.length; at += ROW_BYTES) {
      const shard = shards[nth]!;
      rows.copy(sorted[shard]!, ends[shard]!, at, at + ROW_BYTES);
      ends[shard]! += ROW_BYTES;
      nth += 1;
    }
  }
  return sorted
    .map((rows, shard) => ({ rows, counts: counts[shard]! }))
    .filter(({ rows }) => rows.length > 0);
}
