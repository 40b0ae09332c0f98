import type { Sharding } from '../database/sharding.ts';
import { ROW_BYTES } from '../model/messages.ts';
import { eachUser, expandInOrder, expandRows, type RowSink } from '../model/rowsMessage.ts';

/** A rows message that has been checked. */
export interface CheckedMessage {
  readonly body: Buffer;
  /** Number of its rows. */
  readonly count: number;
}

/** Rows of one shard, and the number of rows of each message. */
export interface ShardRows {
  readonly rows: Buffer;
  /** By index of the message. `rows` is in the order of the messages. */
  readonly counts: readonly number[];
}

/**
 * One buffer for the rows of one batch after another. Batches are megabytes that are needed for a
 * moment: allocating one per batch spent a third of the CPU on garbage collection. Expanded rows
 * are valid until the next batch.
 */
export class CopyBuffer {
  #bytes = Buffer.alloc(0);

  /** Returns the rows of each message. */
  expand(messages: readonly CheckedMessage[]): Buffer[] {
    const rows = this.#room(messages);
    let at = 0;
    return messages.map(({ body }) => {
      const from = at;
      at = expandInOrder(body, rows, from);
      return rows.subarray(from, at);
    });
  }

  /** Returns the rows by the shard of their user, computed from the eight bytes of each user id. */
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
