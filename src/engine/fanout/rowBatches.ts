import { partitionOf } from '../model/hash.ts';
import { HEADER_BYTES, type MessageHeader, ROW_BYTES, sealRows } from '../model/messages.ts';

/** Rows of one message, 300 KB: big enough to cost little each, small enough that two writers share the work. */
const ROWS_A_MESSAGE = 8_192;

export interface RowMessage {
  readonly partition: number;
  readonly body: Buffer;
}

/** Sorts binary rows into one growing message a partition. Rows are copied as bytes, never decoded. */
export class RowBatches {
  readonly #partitions: number;
  readonly #header: MessageHeader;
  readonly #open: { bytes: Buffer; length: number }[] = [];
  #sealed: RowMessage[] = [];
  rows = 0;

  constructor(partitions: number, header: MessageHeader) {
    this.#partitions = partitions;
    this.#header = header;
  }

  /** A row as COPY sends it, at `at`: field count, then user, post and author. */
  add(source: Buffer, at: number): void {
    const high = source.readUInt32BE(at + 6);
    const low = source.readUInt32BE(at + 10);
    const partition = partitionOf(high, low, this.#partitions);
    let open = this.#open[partition];
    if (!open) {
      open = { bytes: Buffer.allocUnsafe(HEADER_BYTES + 64 * ROW_BYTES), length: HEADER_BYTES };
      this.#open[partition] = open;
    } else if (open.length + ROW_BYTES > open.bytes.length) {
      const grown = Buffer.allocUnsafe(
        Math.min(HEADER_BYTES + ROWS_A_MESSAGE * ROW_BYTES, open.bytes.length * 4),
      );
      open.bytes.copy(grown, 0, 0, open.length);
      open.bytes = grown;
    }
    source.copy(open.bytes, open.length, at, at + ROW_BYTES);
    open.length += ROW_BYTES;
    this.rows += 1;
    if (open.length === HEADER_BYTES + ROWS_A_MESSAGE * ROW_BYTES) {
      this.#sealed.push({ partition, body: sealRows(open.bytes, this.#header) });
      delete this.#open[partition];
    }
  }

  /** Messages that are full, taken out. */
  takeFull(): RowMessage[] {
    const full = this.#sealed;
    this.#sealed = [];
    return full;
  }

  /** Everything that is left. */
  takeAll(): RowMessage[] {
    const all = this.takeFull();
    this.#open.forEach((open, partition) => {
      all.push({ partition, body: sealRows(open.bytes.subarray(0, open.length), this.#header) });
    });
    this.#open.length = 0;
    return all;
  }

  get fullCount(): number {
    return this.#sealed.length;
  }
}
