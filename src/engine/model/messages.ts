import { crc32 } from 'node:zlib';
import { FeedctlError } from './errors.ts';
import { EVENT_TYPES, type EventRef } from './event.ts';
import { MAX_ID } from './ids.ts';

/**
 * The binary messages of the bus. Each starts with a kind and a version byte; all numbers are big-endian.
 *
 *     header (26 bytes)  u8 kind, u8 version, u32 CRC-32 of all that follows it, f64 run, f64 committed at (unix ms),
 *                        u32 records (and 2^31: for feeds only; and 2^30: of the bulk lane)
 *     EVENTS   records of 25 bytes  u8 type, i64 event, i64 aggregate, i64 subject
 *     ROWS     blocks of posts and users, see rowsMessage.ts; the records are the rows they stand for
 *     LIVE     records of 24 bytes  i64 recipient (0: every follower who is online; 2^53-1: the same, of a deletion), i64 author,
 *                                   i64 post
 *     CLEANUP  records of one byte  UTF-8 of a JSON value
 *
 * The checksum costs 62 us for 311 KB; without it one flipped bit puts a post into a stranger's feed.
 */
export const KIND = { EVENTS: 1, ROWS: 2, LIVE: 3, CLEANUP: 4 } as const;
type Kind = (typeof KIND)[keyof typeof KIND];

/** 1 had no checksum, 2 had rows as COPY takes them. */
const VERSION = 3;
/** Within what the checksum covers. */
const FEEDS_ONLY = 2 ** 31;
const BULK = 2 ** 30;
const CHECKED_FROM = 6;
export const HEADER_BYTES = 26;
const EVENT_BYTES = 25;
/** A feed row as COPY takes it: i16 field count, then three times i32 length and i64 value: user, post, author. */
export const ROW_BYTES = 38;
const LIVE_BYTES = 24;
/** Of records that all have the same size. */
const RECORD_BYTES: Partial<Record<Kind, number>> = { 1: EVENT_BYTES, 3: LIVE_BYTES, 4: 1 };

export interface MessageHeader {
  /** The bulk run (a replay, a benchmark) these records are counted for; 0 for none. */
  readonly importId: number;
  /** When the oldest post in the message was committed, in unix milliseconds: latency is counted from here. */
  readonly committedAt: number;
  /** No socket is told: old posts that are dispatched again. */
  readonly feedsOnly?: true;
  /** To a gateway: it came through the bulk lane, and may have waited there for long. */
  readonly bulk?: true;
}

/** Recipients that are no user. The gateway finds the followers among its own sockets. */
export const EVERY_FOLLOWER = 0;
/** The post has been deleted: every follower who is online is told. */
export const RETRACTED = MAX_ID;

/** One post on its way to one user's sockets. */
export interface LiveRecord {
  readonly userId: number;
  readonly authorId: number;
  readonly postId: number;
}

export const readId = (bytes: Buffer, at: number): number =>
  bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);

/** Ids, eight bytes each and nothing else. */
export function readIds(bytes: Buffer): number[] {
  const ids: number[] = [];
  for (let at = 0; at < bytes.length; at += 8) ids.push(readId(bytes, at));
  return ids;
}

/** What `readIds` reads. */
export function packIds(ids: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(8 * ids.length);
  for (const [i, id] of ids.entries()) writeId(bytes, 8 * i, id);
  return bytes;
}

export function writeId(bytes: Buffer, at: number, id: number): void {
  bytes.writeUInt32BE(Math.floor(id / 2 ** 32), at);
  bytes.writeUInt32BE(id % 2 ** 32, at + 4);
}

/** Where the user stands in a row. */
export const ROW_USER = 6;
export const rowUser = (rows: Buffer, at: number): number => readId(rows, at + ROW_USER);
export const rowPost = (rows: Buffer, at: number): number => readId(rows, at + 18);
export const rowAuthor = (rows: Buffer, at: number): number => readId(rows, at + 30);

/** Fills in the header of a message whose records are in place. */
export function seal(bytes: Buffer, kind: Kind, header: MessageHeader, records: number): Buffer {
  bytes.writeUInt8(kind, 0);
  bytes.writeUInt8(VERSION, 1);
  bytes.writeDoubleBE(header.importId, 6);
  bytes.writeDoubleBE(header.committedAt, 14);
  bytes.writeUInt32BE(records + (header.feedsOnly ? FEEDS_ONLY : 0) + (header.bulk ? BULK : 0), 22);
  bytes.writeUInt32BE(crc32(bytes.subarray(CHECKED_FROM)), 2);
  return bytes;
}

export const invalidMessage = (why: string) => new FeedctlError('BUS_MESSAGE_INVALID', `the message ${why}`);

/** Reads and checks a header. Throws BUS_MESSAGE_INVALID for anything but a whole message of that kind. */
export function readHeader(bytes: Buffer, kind: Kind): MessageHeader & { records: number } {
  if (bytes.length < HEADER_BYTES)
    throw invalidMessage(`has ${bytes.length} bytes, a header alone has ${HEADER_BYTES}`);
  if (bytes[0] !== kind) throw invalidMessage(`is of kind ${bytes[0]}, expected ${kind}`);
  if (bytes[1] !== VERSION)
    throw invalidMessage(`has format version ${bytes[1]}, this program reads ${VERSION}`);
  const counted = bytes.readUInt32BE(22);
  const feedsOnly = counted >= FEEDS_ONLY;
  const bulk = counted % FEEDS_ONLY >= BULK;
  const records = counted % BULK;
  const size = RECORD_BYTES[kind];
  const expected = size === undefined ? bytes.length : HEADER_BYTES + records * size;
  if (bytes.length !== expected)
    throw invalidMessage(`has ${bytes.length} bytes, ${records} records need ${expected}`);
  if (bytes.readUInt32BE(2) !== crc32(bytes.subarray(CHECKED_FROM)))
    throw invalidMessage('is damaged: its checksum is another');
  const run = bytes.readDoubleBE(6);
  const committedAt = bytes.readDoubleBE(14);
  // A batch notes both in the database: one number out of range would fail every message it is written with.
  if (!Number.isSafeInteger(run) || run < 0) throw invalidMessage('has no number of a run');
  if (!Number.isFinite(committedAt)) throw invalidMessage('has no time');
  return { importId: run, committedAt, records, ...(feedsOnly && { feedsOnly }), ...(bulk && { bulk }) };
}

export function encodeEvents(header: MessageHeader, events: readonly EventRef[]): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + events.length * EVENT_BYTES);
  let at = HEADER_BYTES;
  for (const event of events) {
    bytes.writeUInt8(EVENT_TYPES.indexOf(event.type), at);
    writeId(bytes, at + 1, event.id);
    writeId(bytes, at + 9, event.aggregateId);
    writeId(bytes, at + 17, event.subjectId);
    at += EVENT_BYTES;
  }
  return seal(bytes, KIND.EVENTS, header, events.length);
}

export function decodeEvents(bytes: Buffer): MessageHeader & { events: EventRef[] } {
  const { records, ...header } = readHeader(bytes, KIND.EVENTS);
  const events: EventRef[] = [];
  for (let at = HEADER_BYTES; at < bytes.length; at += EVENT_BYTES) {
    const type = EVENT_TYPES[bytes[at]!];
    if (!type) throw invalidMessage(`has an event of unknown type ${bytes[at]}`);
    events.push({
      type,
      id: readId(bytes, at + 1),
      aggregateId: readId(bytes, at + 9),
      subjectId: readId(bytes, at + 17),
    });
  }
  return { ...header, events };
}

export function encodeLive(header: MessageHeader, records: readonly LiveRecord[]): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + records.length * LIVE_BYTES);
  let at = HEADER_BYTES;
  for (const record of records) {
    writeId(bytes, at, record.userId);
    writeId(bytes, at + 8, record.authorId);
    writeId(bytes, at + 16, record.postId);
    at += LIVE_BYTES;
  }
  return seal(bytes, KIND.LIVE, header, records.length);
}

export function decodeLive(bytes: Buffer): MessageHeader & { live: LiveRecord[] } {
  const { records, ...header } = readHeader(bytes, KIND.LIVE);
  const live: LiveRecord[] = [];
  for (let at = HEADER_BYTES; at < bytes.length; at += LIVE_BYTES) {
    live.push({ userId: readId(bytes, at), authorId: readId(bytes, at + 8), postId: readId(bytes, at + 16) });
  }
  return { ...header, live };
}

export function encodeCleanup(cleanup: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(cleanup));
  const bytes = Buffer.concat([Buffer.alloc(HEADER_BYTES), text]);
  return seal(bytes, KIND.CLEANUP, { importId: 0, committedAt: 0 }, text.length);
}

/** The JSON value of a cleanup; what is in it is checked by whoever cleans up. */
export function decodeCleanup(bytes: Buffer): unknown {
  readHeader(bytes, KIND.CLEANUP);
  try {
    return JSON.parse(bytes.toString('utf8', HEADER_BYTES));
  } catch {
    throw invalidMessage('is no JSON');
  }
}
