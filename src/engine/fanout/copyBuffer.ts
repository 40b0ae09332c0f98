import type { Sharding } from '../database/sharding.ts';
import { ROW_BYTES } from '../model/messages.ts';
import { eachUser, expandRows, type RowSink } from '../model/rowsMessage.ts';

/** A message of rows that has been checked. */
export interface CheckedMessage {
  readonly body: Buffer;
  /** Its rows. */
  readonly count: number;
}

/** Rows of one shard, and how many of them are of each message they came from. */
export interface ShardRows {
  readonly rows: Buffer;
  /** By the place of the message; its rows are in `rows` in the order of the messages. */
  readonly counts: readonly number[];
}

/**
 * Room for the rows of one batch after the other: batches are megabytes that are needed for a moment, and as garbage they
 * cost a third of the process's time. What was expanded is gone with the next batch.
 */
export class CopyBuffer {
  #bytes = Buffer.alloc(0);

  /** The rows of each message, one behind the other. */
  expand(messages: readonly CheckedMessage[]): Buffer[] {
    const rows = this.#room(messages);
    let at = 0;
    const sink: RowSink = {
      rows,
      place(_high, _low, length) {
        at += length;
        return at - length;
      },
    };
    return messages.map(({ body }) => {
      const from = at;
      expandRows(body, sink);
      return rows.subarray(from, at);
    });
  }

  /** The rows by the shard of their user: by arithmetic on eight bytes of each user, as planned rows are. */
  expandByShard(messages: readonly CheckedMessage[], sharding: Sharding): ShardRows[] {
    const counts = sharding.shards.map(() => new Array<number>(messages.length).fill(0));
    for (const [i, { body }] of messages.entries()) {
      eachUser(body, (high, low, rows) => {
        counts[sharding.shardOf(high, low)]![i]! += rows;
      });
    }
    const rows = this.#room(messages);
    let at = 0;
    const sorted = counts.map((of) => {
      const from = at;
      at += of.reduce((sum, count) => sum + count, 0) * ROW_BYTES;
      return rows.subarray(from, at);
    });
    const ends = new Uint32Array(sorted.length);
    const sink: RowSink = {
      rows,
      place(high, low, length) {
        const shard = sharding.shardOf(high, low);
        this.rows = sorted[shard]!;
        ends[shard]! += length;
        return ends[shard]! - length;
      },
    };
    for (const { body } of messages) expandRows(body, sink);
    return sorted
      .map((rows, shard) => ({ rows, counts: counts[shard]! }))
      .filter(({ rows }) => rows.length > 0);
  }

  #room(messages: readonly CheckedMessage[]): Buffer {
    const bytes = messages.reduce((sum, { count }) => sum + count, 0) * ROW_BYTES;
    if (bytes > this.#bytes.length) this.#bytes = Buffer.allocUnsafeSlow(bytes);
    return this.#bytes.subarray(0, bytes);
  }
}
