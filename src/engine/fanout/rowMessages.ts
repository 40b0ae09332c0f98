import type { MessageHeader } from '../model/messages.ts';
import { type AuthorPosts, RowsMessage } from '../model/rowsMessage.ts';
import { partitionOf } from '../util/hash.ts';

/**
 * Rows of one message: enough that a row costs little, few enough that two writers share the work.
 */
const ROWS_A_MESSAGE = 8_192;

export interface PlannedMessage {
  readonly partition: number;
  readonly body: Buffer;
  /** Number of its rows. */
  readonly rows: number;
}

/** Ids in PostgreSQL's binary array format: four bytes of length before the eight of each id. */
export interface PackedIds {
  readonly bytes: Buffer;
  /** Offset of the first length. */
  readonly at: number;
  readonly count: number;
}

const PACKED_ID_BYTES = 12;

/** Sorts rows into one growing message per partition. */
export class RowMessages {
  readonly #partitions: number;
  readonly #header: MessageHeader;
  readonly #open: RowsMessage[] = [];
  #sealed: PlannedMessage[] = [];

  constructor(partitions: number, header: MessageHeader) {
    this.#partitions = partitions;
    this.#header = header;
  }

  /** Adds a row of each of the posts for each user. */
  add(posts: AuthorPosts, { bytes, at, count }: PackedIds): void {
    const end = at + count * PACKED_ID_BYTES;
    for (let id = at + PACKED_ID_BYTES - 8; id < end; id += PACKED_ID_BYTES) {
      const high = bytes.readUInt32BE(id);
      const low = bytes.readUInt32BE(id + 4);
      const partition = partitionOf(high, low, this.#partitions);
      let open = this.#open[partition];
      if (!open) {
        open = new RowsMessage();
        this.#open[partition] = open;
      }
      open.add(high, low, posts);
      if (open.rows >= ROWS_A_MESSAGE) {
        this.#sealed.push(this.#seal(open, partition));
        delete this.#open[partition];
      }
    }
  }

  /** Removes and returns full messages. */
  takeFull(): PlannedMessage[] {
    const full = this.#sealed;
    this.#sealed = [];
    return full;
  }

  /** Removes and returns all messages. */
  takeAll(): PlannedMessage[] {
    const all = this.takeFull();
    this.#open.forEach((open, partition) => {
      all.push(this.#seal(open, partition));
    });
    this.#open.length = 0;
    return all;
  }

  #seal(message: RowsMessage, partition: number): PlannedMessage {
    return { partition, rows: message.rows, body: message.seal(this.#header) };
  }

  get fullCount(): number {
    return this.#sealed.length;
  }
}
