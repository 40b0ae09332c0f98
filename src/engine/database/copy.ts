import type { Readable, Writable } from 'node:stream';
import type { Session } from './types.ts';

/**
 * PostgreSQL's binary COPY format (https://www.postgresql.org/docs/current/sql-copy.html): an
 * 11-byte signature, two 32-bit zeros, then rows of a 16-bit field count and length-prefixed
 * values, then a count of -1.
 */
const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
const HEADER = Buffer.concat([SIGNATURE, Buffer.alloc(8)]);
const TRAILER = Buffer.from([0xff, 0xff]);
const POSTGRES_EPOCH_MS = Date.UTC(2000, 0, 1);

/**
 * Message codes of the wire protocol
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html).
 */
const COPY_DATA = 0x64; // d
const COPY_DONE = 0x63; // c
const COPY_OUT_RESPONSE = 0x48; // H
/** Messages that the server may send between rows: A notification, N notice, S parameter. */
const ASIDES = new Set([0x41, 0x4e, 0x53]);
const FRAME_BYTES = 5;

/**
 * Sends whole binary rows to `copy … from stdin (format binary)`. Rejects with the server's error.
 */
export function copyIn(session: Session, statement: string, rows: readonly Buffer[]): Promise<void> {
  return new Promise((resolve, reject) => {
    session.query(new CopyInQuery(statement, rows, (error) => (error ? reject(error) : resolve())) as never);
  });
}

/**
 * Query object of `pg` that writes all its rows in one go, because a batch is bounded and in
 * memory. The server may refuse it half-way, for instance at a duplicate. It then skips the
 * remaining rows.
 */
class CopyInQuery {
  readonly #statement: string;
  readonly #rows: readonly Buffer[];
  readonly #settle: (error?: unknown) => void;

  constructor(statement: string, rows: readonly Buffer[], settle: (error?: unknown) => void) {
    this.#statement = statement;
    this.#rows = rows;
    this.#settle = settle;
  }

  submit(connection: Connection): void {
    connection.query(this.#statement);
  }

  handleCopyInResponse({ stream }: { stream: Writable }): void {
    const frame = (code: number, length: number) => {
      const head = Buffer.allocUnsafe(FRAME_BYTES);
      head[0] = code;
      head.writeUInt32BE(length + 4, 1);
      return head;
    };
    stream.cork();
    for (const part of [HEADER, ...this.#rows, TRAILER]) {
      stream.write(frame(COPY_DATA, part.length));
      stream.write(part);
    }
    stream.write(frame(COPY_DONE, 0));
    stream.uncork();
  }

  handleError(error: unknown): void {
    this.#settle(error);
  }

  handleReadyForQuery(): void {
    this.#settle();
  }

  handleCommandComplete(): void {}
  handleRowDescription(): void {}
  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}
}

/** Collects rows in the binary format, in one growing buffer. */
export class CopyRows {
  #bytes: Buffer;
  #length = 0;
  count = 0;

  constructor(initialBytes = 64 * 1024) {
    this.#bytes = Buffer.allocUnsafe(initialBytes);
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  row(fields: number): this {
    this.#room(2);
    this.#length = this.#bytes.writeInt16BE(fields, this.#length);
    this.count += 1;
    return this;
  }

  bigint(value: number): this {
    this.#room(12);
    this.#bytes.writeInt32BE(8, this.#length);
    this.#bytes.writeInt32BE(Math.floor(value / 2 ** 32), this.#length + 4);
    this.#bytes.writeUInt32BE(value - Math.floor(value / 2 ** 32) * 2 ** 32, this.#length + 8);
    this.#length += 12;
    return this;
  }

  null(): this {
    this.#room(4);
    this.#length = this.#bytes.writeInt32BE(-1, this.#length);
    return this;
  }

  text(value: string): this {
    return this.#utf8(value, '');
  }

  /** jsonb: a version byte, 1, before the text. */
  jsonb(value: unknown): this {
    return this.#utf8(JSON.stringify(value), '\u0001');
  }

  timestamp(unixMs: number): this {
    return this.bigint((unixMs - POSTGRES_EPOCH_MS) * 1000);
  }

  #utf8(value: string, prefix: string): this {
    const most = 4 + prefix.length + value.length * 3;
    this.#room(most);
    const start = this.#length + 4;
    const end = start + this.#bytes.write(prefix + value, start);
    this.#bytes.writeInt32BE(end - start, this.#length);
    this.#length = end;
    return this;
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + bytes));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

/**
 * Runs `copy … to stdout (format binary)` and passes each row at its place in the socket's buffer,
 * without an object per row. The server sends one message per row, and decoding each of them would
 * cost more than writing the rows.
 *
 * `onRow` gets the buffer and the start of the row (its field count). It may return a promise: the
 * socket is paused until that settles, and its rejection ends the copy.
 */
export function copyOut(
  session: Session,
  statement: string,
  onRow: (bytes: Buffer, at: number, length: number) => undefined | Promise<void>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let failure: unknown;
    session.query(
      Object.assign(
        new CopyOutQuery(statement, onRow, (error) => {
          failure ??= error;
        }),
        {
          settle: (error: unknown) => ((failure ?? error) ? reject(failure ?? error) : resolve()),
        },
      ) as never,
    );
  });
}

type Connection = {
  stream: Readable & { listeners(event: 'data'): ((chunk: Buffer) => void)[] };
  query(text: string): void;
};

/**
 * Query object of `pg` that reads the socket itself while rows arrive. Afterwards the driver reads
 * it again.
 */
class CopyOutQuery {
  declare settle: (error?: unknown) => void;
  readonly #statement: string;
  readonly #onRow: (bytes: Buffer, at: number, length: number) => undefined | Promise<void>;
  readonly #onFailure: (error: unknown) => void;
  /** Bytes of a message that is not complete, and the length that is known of it. */
  #rest: Buffer[] = [];
  #restBytes = 0;
  #wanted = 0;
  #failed = false;

  constructor(
    statement: string,
    onRow: (bytes: Buffer, at: number, length: number) => undefined | Promise<void>,
    onFailure: (error: unknown) => void,
  ) {
    this.#statement = statement;
    this.#onRow = onRow;
    this.#onFailure = onFailure;
  }

  submit(connection: Connection): void {
    const stream = connection.stream;
    const driver = stream.listeners('data')[0]!;
    stream.removeListener('data', driver);
    let paused = false;
    let queued: Buffer[] = [];

    const handBack = (bytes: Buffer) => {
      stream.removeListener('data', onData);
      stream.on('data', driver);
      if (bytes.length > 0) driver(bytes);
    };
    const onData = (chunk: Buffer) => {
      if (paused) {
        queued.push(chunk);
        return;
      }
      this.#rest.push(chunk);
      this.#restBytes += chunk.length;
      // A row may be many chunks long: joining them at each chunk would copy the first ones again and again.
      if (this.#restBytes < this.#wanted) return;
      const bytes = this.#rest.length === 1 ? chunk : Buffer.concat(this.#rest);
      this.#rest = [];
      consume(bytes, 0);
    };
    const wait = (work: Promise<void>, bytes: Buffer, at: number) => {
      paused = true;
      stream.pause();
      work
        .catch((error) => this.#fail(error))
        .then(() => {
          paused = false;
          stream.resume();
          const all = Buffer.concat([bytes.subarray(at), ...queued]);
          queued = [];
          consume(all, 0);
        });
    };
    const consume = (bytes: Buffer, from: number) => {
      let at = from;
      let wanted = FRAME_BYTES;
      while (at + FRAME_BYTES <= bytes.length) {
        const code = bytes[at]!;
        const length = bytes.readUInt32BE(at + 1);
        const end = at + 1 + length;
        const aside = ASIDES.has(code);
        if (code !== COPY_DATA && code !== COPY_OUT_RESPONSE && !aside) {
          // The rows have ended, or an error follows. The driver handles this message and the
          // following ones.
          handBack(bytes.subarray(at));
          return;
        }
        wanted = end - at;
        if (end > bytes.length) break;
        wanted = FRAME_BYTES;
        if (aside) driver(bytes.subarray(at, end));
        if (code === COPY_DATA) {
          let row = at + FRAME_BYTES;
          // The header is in the same message as the first row, or as the trailer if there are no
          // rows.
          if (bytes[row] === SIGNATURE[0] && bytes.subarray(row, row + SIGNATURE.length).equals(SIGNATURE))
            row += HEADER.length;
          if (end - row > TRAILER.length && !this.#failed) {
            const work = this.#row(bytes, row, end - row);
            if (work) {
              wait(work, bytes, end);
              return;
            }
          }
        }
        at = end;
      }
      this.#rest = at < bytes.length ? [bytes.subarray(at)] : [];
      this.#restBytes = bytes.length - at;
      this.#wanted = wanted;
    };
    stream.on('data', onData);
    connection.query(this.#statement);
  }

  #row(bytes: Buffer, at: number, length: number): Promise<void> | undefined {
    try {
      return this.#onRow(bytes, at, length);
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  /** Remaining rows are read and dropped, so that the session stays usable. */
  #fail(error: unknown): void {
    this.#failed = true;
    this.#onFailure(error);
  }

  handleError(error: unknown): void {
    this.settle(error);
  }

  handleReadyForQuery(): void {
    this.settle();
  }

  handleCommandComplete(): void {}
  handleCopyData(): void {}
  handleRowDescription(): void {}
  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}
}
