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
}

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

  /** Adds a row for each of the posts. `high`, `low`: 32 bits each of the user's id. */
  add(high: number, low: number, posts: AuthorPosts): void {
    const partition = partitionOf(high, low, this.#partitions);
    let open = this.#open[partition];
    if (!open) {
      open = new RowsMessage();
      this.#open[partition] = open;
    }
    open.add(high, low, posts);
    if (open.rows >= ROWS_A_MESSAGE) {
      this.#sealed.push({ partition, body: open.seal(this.#header) });
      delete this.#open[partition];
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
      all.push({ partition, body: open.seal(this.#header) });
    });
    this.#open.length = 0;
    return all;
  }

  get fullCount(): number {
    return this.#sealed.length;
  }
}
