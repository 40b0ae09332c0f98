import { crc32 } from 'node:zlib';
import { FeedctlError } from './errors.ts';
import { EVENT_TYPES, type EventRef } from './event.ts';
import { MAX_ID } from './ids.ts';

/**
 * Binary messages of the bus. All numbers are big-endian.
 *
 *     header   26 bytes             u8 kind, u8 version, u32 CRC-32 of everything after it,
 *                                   f64 import id, f64 commit time (unix ms),
 *                                   u32 number of records and flags: 2^31 feeds only, 2^30 bulk lane
 *     EVENTS   records of 25 bytes  u8 type, i64 event, i64 aggregate, i64 subject
 *     ROWS     blocks               posts and users, see rowsMessage.ts; each feed row is a record
 *     LIVE     records of 24 bytes  i64 recipient, i64 author, i64 post
 *     CLEANUP  records of one byte  UTF-8 of a JSON object, see CleanupMessage
 *
 * `decodeMessage.ts` reads a message of any kind. The checksum costs 62 us for 311 KB. Without it
 * one flipped bit would put a post into a stranger's feed.
 */
export const KIND = { EVENTS: 1, ROWS: 2, LIVE: 3, CLEANUP: 4 } as const;
type Kind = (typeof KIND)[keyof typeof KIND];

/** Version 1 had no checksum. Version 2 carried rows in COPY format. */
const VERSION = 3;
/** First byte that the checksum covers: everything after kind, version and the checksum itself. */
const CHECKED_FROM = 6;
/** Flags in the number of records, so that the checksum covers them. */
const FEEDS_ONLY = 2 ** 31;
const BULK = 2 ** 30;
export const HEADER_BYTES = 26;
/** Offset of the number of records, and the bits of it that are no flags. */
export const RECORDS_AT = 22;
export const RECORDS_MASK = BULK - 1;
const EVENT_BYTES = 25;
const LIVE_BYTES = 24;
/** Record sizes of the kinds whose records all have the same size. */
const RECORD_BYTES: Partial<Record<Kind, number>> = { 1: EVENT_BYTES, 3: LIVE_BYTES, 4: 1 };

/** Feed row in COPY format: i16 field count; user, post and author as i32 length and i64 value each. */
export const ROW_BYTES = 38;
/** Offset of the user's id in a row. */
export const ROW_USER = 6;

export interface MessageHeader {
  /** Import (a replay, a benchmark) that the records are counted for. 0: none. */
  readonly importId: number;
  /** Commit time of the oldest post in the message, in unix milliseconds. Latency counts from here. */
  readonly committedAt: number;
  /** Old posts that are dispatched again: feeds get them, sockets do not. */
  readonly feedsOnly?: true;
  /** Message to a gateway that passed through the bulk lane, and may have waited there for long. */
  readonly bulk?: true;
}

/** Recipient of a post for every follower who is online. Gateways look among their own sockets. */
export const EVERY_FOLLOWER = 0;
/** Recipient of a deleted post: every follower who is online removes it. */
export const RETRACTED = MAX_ID;
/**
 * Recipient of an edited post: every follower who is online gets its text. No user has this id, so a
 * gateway of an older version takes the record for one of an offline user.
 */
export const EDITED = MAX_ID + 1;

/** One post on its way to the sockets of one user. */
export interface LiveRecord {
  /** User, EVERY_FOLLOWER, RETRACTED or EDITED. */
  readonly userId: number;
  readonly authorId: number;
  readonly postId: number;
}

/** Rows to remove: those of a pair that no longer follows, or those of a deleted post. */
export type PendingCleanup =
  | { readonly pair: { readonly followerId: number; readonly followeeId: number } }
  | { readonly post: { readonly authorId: number; readonly postId: number } };

/** JSON object of a cleanup. */
export interface CleanupMessage {
  /** At least one. */
  readonly what: readonly PendingCleanup[];
  /** Barrier to wait for. Its other fields belong to the bus that placed it. */
  readonly mark: { readonly queues: readonly string[] };
  /** Index of the pipeline stage that the barrier is in. */
  readonly step: number;
}

export const readId = (bytes: Buffer, at: number): number =>
  bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);

/** Reads ids of eight bytes each. */
export function readIds(bytes: Buffer): number[] {
  const ids: number[] = [];
  for (let at = 0; at < bytes.length; at += 8) ids.push(readId(bytes, at));
  return ids;
}

/** Writes ids for `readIds`. */
export function packIds(ids: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(8 * ids.length);
  for (const [i, id] of ids.entries()) writeId(bytes, 8 * i, id);
  return bytes;
}

export function writeId(bytes: Buffer, at: number, id: number): void {
  bytes.writeUInt32BE(Math.floor(id / 2 ** 32), at);
  bytes.writeUInt32BE(id % 2 ** 32, at + 4);
}

export const rowUser = (rows: Buffer, at: number): number => readId(rows, at + ROW_USER);
export const rowPost = (rows: Buffer, at: number): number => readId(rows, at + 18);
export const rowAuthor = (rows: Buffer, at: number): number => readId(rows, at + 30);

/** Writes the header of a message whose records are in place. */
export function seal(bytes: Buffer, kind: Kind, header: MessageHeader, records: number): Buffer {
  bytes.writeUInt8(kind, 0);
  bytes.writeUInt8(VERSION, 1);
  bytes.writeDoubleBE(header.importId, 6);
  bytes.writeDoubleBE(header.committedAt, 14);
  bytes.writeUInt32BE(records + (header.feedsOnly ? FEEDS_ONLY : 0) + (header.bulk ? BULK : 0), RECORDS_AT);
  bytes.writeUInt32BE(crc32(bytes.subarray(CHECKED_FROM)), 2);
  return bytes;
}

export const invalidMessage = (why: string) => new FeedctlError('BUS_MESSAGE_INVALID', `the message ${why}`);

/** Reads a header and checks the whole message. Throws BUS_MESSAGE_INVALID. */
export function readHeader(bytes: Buffer, kind: Kind): MessageHeader & { records: number } {
  if (bytes.length < HEADER_BYTES)
    throw invalidMessage(`has ${bytes.length} bytes, a header alone has ${HEADER_BYTES}`);
  if (bytes[0] !== kind) throw invalidMessage(`is of kind ${bytes[0]}, expected ${kind}`);
  if (bytes[1] !== VERSION)
    throw invalidMessage(`has format version ${bytes[1]}, this program reads ${VERSION}`);
  const counted = bytes.readUInt32BE(RECORDS_AT);
  const feedsOnly = counted >= FEEDS_ONLY;
  const bulk = counted % FEEDS_ONLY >= BULK;
  const records = counted % BULK;
  const size = RECORD_BYTES[kind];
  const expected = size === undefined ? bytes.length : HEADER_BYTES + records * size;
  if (bytes.length !== expected)
    throw invalidMessage(`has ${bytes.length} bytes, ${records} records need ${expected}`);
  if (bytes.readUInt32BE(2) !== crc32(bytes.subarray(CHECKED_FROM)))
    throw invalidMessage('is damaged: its checksum does not match');
  const importId = bytes.readDoubleBE(6);
  const committedAt = bytes.readDoubleBE(14);
  // Both numbers go to the database: one out of range would fail every message of the same batch.
  if (!Number.isSafeInteger(importId) || importId < 0) throw invalidMessage('has an invalid import id');
  if (!Number.isFinite(committedAt)) throw invalidMessage('has an invalid commit time');
  return { importId, committedAt, records, ...(feedsOnly && { feedsOnly }), ...(bulk && { bulk }) };
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

export function encodeCleanup(cleanup: CleanupMessage): Buffer {
  const text = Buffer.from(JSON.stringify(cleanup));
  const bytes = Buffer.concat([Buffer.alloc(HEADER_BYTES), text]);
  return seal(bytes, KIND.CLEANUP, { importId: 0, committedAt: 0 }, text.length);
}

/** Throws BUS_MESSAGE_INVALID. */
export function decodeCleanup(bytes: Buffer): CleanupMessage {
  readHeader(bytes, KIND.CLEANUP);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8', HEADER_BYTES));
  } catch {
    throw invalidMessage('is no JSON');
  }
  if (!isCleanup(value)) throw invalidMessage('is no cleanup');
  return value;
}

type Fields = { readonly [name: string]: unknown } | null | undefined;

const hasIds = (value: unknown, names: readonly string[]): boolean =>
  typeof value === 'object' && names.every((name) => isId((value as Fields)?.[name]));

const isId = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0;

const isPendingCleanup = (value: unknown): boolean =>
  hasIds((value as Fields)?.pair, ['followerId', 'followeeId']) ||
  hasIds((value as Fields)?.post, ['authorId', 'postId']);

function isCleanup(value: unknown): value is CleanupMessage {
  const { what, mark, step } = (value ?? {}) as { [name: string]: unknown };
  return (
    Array.isArray(what) &&
    what.length > 0 &&
    what.every(isPendingCleanup) &&
    Array.isArray((mark as Fields)?.queues) &&
    Number.isSafeInteger(step) &&
    (step as number) >= 0
  );
}
