import { partitionOf } from '../model/hash.ts';
import { HEADER_BYTES, type MessageHeader, ROW_BYTES, ROW_USER, sealRows } from '../model/messages.ts';

/** Rows of one message, 300 KB: big enough to cost little each, small enough that two writers share the work. */
const ROWS_A_MESSAGE = 8_192;

export interface RowMessage {
  readonly partition: number;
  readonly body: Buffer;
}

/** Sorts binary rows into one growing message a partition. */
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

  /** A row of each of some posts for one user, who is given by the high and the low 32 bits of the id. */
  add(high: number, low: number, posts: readonly Buffer[]): void {
    const partition = partitionOf(high, low, this.#partitions);
    for (const row of posts) {
      const open = this.#room(partition);
      const { bytes, length } = open;
      row.copy(bytes, length);
      bytes.writeUInt32BE(high, length + ROW_USER);
      bytes.writeUInt32BE(low, length + ROW_USER + 4);
      open.length = length + ROW_BYTES;
      this.rows += 1;
      if (open.length === HEADER_BYTES + ROWS_A_MESSAGE * ROW_BYTES) {
        this.#sealed.push({ partition, body: sealRows(bytes, this.#header) });
        delete this.#open[partition];
      }
    }
  }

  #room(partition: number): { bytes: Buffer; length: number } {
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
    return open;
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
