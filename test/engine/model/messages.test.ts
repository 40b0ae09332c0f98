import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EVENT_TYPES, type EventRef } from '../../../src/engine/model/event.ts';
import {
  decodeEvents,
  decodeLive,
  decodeRows,
  encodeEvents,
  encodeLive,
  HEADER_BYTES,
  type LiveRecord,
  type MessageHeader,
  rowAuthor,
  rowPost,
  rowUser,
  sealRows,
} from '../../../src/engine/model/messages.ts';
import { CopyRows } from '../../../src/engine/store/copy.ts';
import { codeOf } from '../../support/codes.ts';

const id = fc.maxSafeNat();
const header: fc.Arbitrary<MessageHeader> = fc.record({
  run: id,
  committedAt: fc.double({ min: 0, max: 1e13, noNaN: true }).map((ms) => ms + 0),
});
const events: fc.Arbitrary<EventRef[]> = fc.array(
  fc.record({ type: fc.constantFrom(...EVENT_TYPES), id, aggregateId: id, subjectId: id }),
);
const live: fc.Arbitrary<LiveRecord[]> = fc.array(fc.record({ userId: id, authorId: id, postId: id }));

function rowsMessage(from: MessageHeader, records: LiveRecord[]): Buffer {
  const rows = new CopyRows();
  for (const row of records) rows.row(3).bigint(row.userId).bigint(row.postId).bigint(row.authorId);
  return sealRows(Buffer.concat([Buffer.alloc(HEADER_BYTES), rows.bytes]), from);
}

const FORMATS = [
  {
    name: 'events',
    message: fc.tuple(header, events).map((args) => encodeEvents(...args)),
    decode: decodeEvents,
  },
  { name: 'rows', message: fc.tuple(header, live).map((args) => rowsMessage(...args)), decode: decodeRows },
  { name: 'live', message: fc.tuple(header, live).map((args) => encodeLive(...args)), decode: decodeLive },
];

describe('a message comes back as it was written', () => {
  test('events', () => {
    fc.assert(
      fc.property(header, events, (from, list) => {
        expect(decodeEvents(encodeEvents(from, list))).toEqual({ ...from, events: list });
      }),
    );
  });

  test('live', () => {
    fc.assert(
      fc.property(header, live, (from, list) => {
        expect(decodeLive(encodeLive(from, list))).toEqual({ ...from, live: list });
      }),
    );
  });

  test('rows', () => {
    fc.assert(
      fc.property(header, live, (from, list) => {
        const bytes = rowsMessage(from, list);
        expect(decodeRows(bytes)).toEqual({ ...from, records: list.length });
        const rowBytes = (bytes.length - HEADER_BYTES) / Math.max(1, list.length);
        const read = list.map((_, i) => {
          const at = HEADER_BYTES + i * rowBytes;
          return { userId: rowUser(bytes, at), authorId: rowAuthor(bytes, at), postId: rowPost(bytes, at) };
        });
        expect(read).toEqual(list);
      }),
    );
  });
});

describe.each(FORMATS)('a damaged message of $name', ({ message, decode }) => {
  const refused = (bytes: Buffer) => expect(codeOf(() => decode(bytes))).toBe('BUS_MESSAGE_INVALID');

  test('is refused when cut short', () => {
    fc.assert(
      fc.property(message, fc.nat(), (bytes, cut) => {
        refused(bytes.subarray(0, cut % bytes.length));
      }),
    );
  });

  test('is refused when bytes follow it', () => {
    fc.assert(
      fc.property(message, fc.uint8Array({ minLength: 1 }), (bytes, more) => {
        refused(Buffer.concat([bytes, more]));
      }),
    );
  });

  test('is refused with another version, kind or record count', () => {
    fc.assert(
      fc.property(message, fc.constantFrom(0, 1, 18, 19, 20, 21), fc.nat(7), (bytes, at, bit) => {
        const flipped = Buffer.from(bytes);
        flipped[at]! ^= 1 << bit;
        refused(flipped);
      }),
    );
  });

  test('is read or refused with BUS_MESSAGE_INVALID wherever a bit flips', () => {
    fc.assert(
      fc.property(message, fc.nat(), fc.nat(7), (bytes, at, bit) => {
        const flipped = Buffer.from(bytes);
        flipped[at % bytes.length]! ^= 1 << bit;
        expect([undefined, 'BUS_MESSAGE_INVALID']).toContain(codeOf(() => decode(flipped)));
      }),
    );
  });

  test('is refused when it is noise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
        fc.pre(noise[0]! > 3);
        refused(Buffer.from(noise));
      }),
    );
  });
});

test.each(FORMATS)('a message of $name is refused by the other decoders', ({ name, message }) => {
  const bytes = fc.sample(message, 1)[0]!;
  for (const other of FORMATS.filter((format) => format.name !== name))
    expect(codeOf(() => other.decode(bytes))).toBe('BUS_MESSAGE_INVALID');
});

test('a header with a run or a time that is no number is refused', () => {
  for (const at of [2, 10]) {
    const bytes = encodeEvents({ run: 1, committedAt: 1 }, []);
    bytes.writeDoubleBE(Number.NaN, at);
    expect(codeOf(() => decodeEvents(bytes))).toBe('BUS_MESSAGE_INVALID');
  }
});
