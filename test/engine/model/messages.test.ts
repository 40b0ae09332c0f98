import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodePendingCleanups } from '../../../src/engine/fanout/cleaner.ts';
import { decodeMessage } from '../../../src/engine/model/decodeMessage.ts';
import { EVENT_TYPES, type EventRef } from '../../../src/engine/model/event.ts';
import {
  type CleanupMessage,
  decodeCleanup,
  decodeEvents,
  decodeLive,
  encodeCleanup,
  encodeEvents,
  encodeLive,
  HEADER_BYTES,
  type LiveRecord,
  type MessageHeader,
  type PendingCleanup,
  ROW_BYTES,
  rowAuthor,
  rowPost,
  rowUser,
} from '../../../src/engine/model/messages.ts';
import {
  eachUser,
  expandInOrder,
  expandRows,
  RowsMessage,
  readRows,
} from '../../../src/engine/model/rowsMessage.ts';
import { codeOf } from '../../support/codes.ts';

const id = fc.maxSafeNat();
const header: fc.Arbitrary<MessageHeader> = fc.record({
  importId: id,
  committedAt: fc.double({ min: 0, max: 1e13, noNaN: true }).map((ms) => ms + 0),
});
const events: fc.Arbitrary<EventRef[]> = fc.array(
  fc.record({ type: fc.constantFrom(...EVENT_TYPES), id, aggregateId: id, subjectId: id }),
);
const live: fc.Arbitrary<LiveRecord[]> = fc.array(fc.record({ userId: id, authorId: id, postId: id }));

/** Posts of one author for some users, as a planner adds them. */
interface Planned {
  readonly authorId: number;
  readonly postIds: number[];
  readonly users: number[];
}
const planned: fc.Arbitrary<Planned[]> = fc.array(
  fc.record({
    authorId: id,
    postIds: fc.array(id, { minLength: 1, maxLength: 5 }),
    users: fc.array(id, { minLength: 1 }),
  }),
);

function rowsMessage(from: MessageHeader, blocks: readonly Planned[]): Buffer {
  const message = new RowsMessage();
  for (const { users, ...posts } of blocks)
    for (const user of users) message.add(Math.floor(user / 2 ** 32), user % 2 ** 32, posts);
  return message.seal(from);
}

const positive = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const pending: fc.Arbitrary<PendingCleanup> = fc.oneof(
  fc.record({ pair: fc.record({ followerId: positive, followeeId: positive }) }),
  fc.record({ post: fc.record({ authorId: positive, postId: positive }) }),
);
const cleanups: fc.Arbitrary<CleanupMessage> = fc.record({
  what: fc.array(pending, { minLength: 1 }),
  mark: fc.record({ queues: fc.array(fc.constantFrom('events', 'rows.live')), position: fc.nat() }),
  step: fc.nat(2),
});

const FORMATS = [
  {
    name: 'events',
    message: fc.tuple(header, events).map((args) => encodeEvents(...args)),
    decode: decodeEvents,
  },
  {
    name: 'rows',
    message: fc.tuple(header, planned).map((args) => rowsMessage(...args)),
    decode: readRows,
  },
  { name: 'live', message: fc.tuple(header, live).map((args) => encodeLive(...args)), decode: decodeLive },
  { name: 'cleanup', message: cleanups.map(encodeCleanup), decode: decodeCleanup },
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
      fc.property(header, planned, (from, blocks) => {
        const expected = blocks.flatMap(({ authorId, postIds, users }) =>
          users.flatMap((userId) => postIds.map((postId) => ({ userId, authorId, postId }))),
        );
        const bytes = rowsMessage(from, blocks);
        expect(readRows(bytes)).toEqual({ ...from, records: expected.length });
        const rows = Buffer.alloc(expected.length * ROW_BYTES);
        let end = 0;
        expandRows(bytes, {
          rows,
          place(_high, _low, length) {
            end += length;
            return end - length;
          },
        });
        expect(end).toBe(rows.length);
        const inOrder = Buffer.alloc(rows.length + 1);
        expect(expandInOrder(bytes, inOrder, 1)).toBe(inOrder.length);
        expect(inOrder.subarray(1)).toEqual(rows);
        const counts: number[] = [];
        eachUser(bytes, (_high, _low, count) => counts.push(count));
        expect(counts).toEqual(blocks.flatMap(({ postIds, users }) => users.map(() => postIds.length)));
        const found = expected.map((_, i) => {
          const at = i * ROW_BYTES;
          expect([0, 2, 14, 26].map((field) => rows.readInt16BE(at + field))).toEqual([3, 0, 0, 0]);
          expect([2, 14, 26].map((field) => rows.readInt32BE(at + field))).toEqual([8, 8, 8]);
          return { userId: rowUser(rows, at), authorId: rowAuthor(rows, at), postId: rowPost(rows, at) };
        });
        expect(found).toEqual(expected);
      }),
    );
  });

  test('cleanups', () => {
    fc.assert(
      fc.property(cleanups, (cleanup) => {
        expect(decodeCleanup(encodeCleanup(cleanup))).toEqual(cleanup);
      }),
    );
  });

  test('rows, if they are not more than memory should be taken for', () => {
    const postIds = Array.from({ length: 1_000 }, (_, i) => i);
    const users = Array.from({ length: 200 }, (_, i) => i);
    const bytes = rowsMessage({ importId: 0, committedAt: 0 }, [{ authorId: 1, postIds, users }]);
    expect(codeOf(() => readRows(bytes))).toBe('BUS_MESSAGE_INVALID');
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

  test('is refused wherever a bit flips', () => {
    fc.assert(
      fc.property(message, fc.nat(), fc.nat(7), (bytes, at, bit) => {
        const flipped = Buffer.from(bytes);
        flipped[at % bytes.length]! ^= 1 << bit;
        refused(flipped);
      }),
      { numRuns: 1_000 },
    );
  });

  test('is refused when a stretch of it is overwritten', () => {
    fc.assert(
      fc.property(message, fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 16 }), (bytes, at, noise) => {
        const damaged = Buffer.from(bytes);
        damaged.set(noise.slice(0, bytes.length - (at % bytes.length)), at % bytes.length);
        fc.pre(!damaged.equals(bytes));
        refused(damaged);
      }),
    );
  });

  // Sealed again, as a newer program would: fields are checked although the checksum matches.
  const resealed = (bytes: Buffer) => {
    bytes.writeUInt32BE(crc32(bytes.subarray(6)), 2);
    return bytes;
  };

  test('is refused in another version or of another kind, by whoever sealed it', () => {
    fc.assert(
      fc.property(message, fc.constantFrom(0, 1), fc.integer({ min: 1, max: 255 }), (bytes, at, change) => {
        const other = Buffer.from(bytes);
        other[at] = (other[at]! + change) % 256;
        refused(resealed(other));
      }),
    );
  });

  test('is refused when it counts more records than it has, at once and without room for them', () => {
    fc.assert(
      fc.property(message, fc.integer({ min: 1, max: 2 ** 32 - 1 }), (bytes, records) => {
        const other = Buffer.from(bytes);
        fc.pre(other.readUInt32BE(22) !== records);
        other.writeUInt32BE(records, 22);
        refused(resealed(other));
      }),
      { examples: [[encodeLive({ importId: 0, committedAt: 0 }, []), 2 ** 32 - 1]] },
    );
  });

  test('is read or refused with BUS_MESSAGE_INVALID whatever its records hold', () => {
    fc.assert(
      fc.property(message, fc.nat(), fc.nat(255), (bytes, at, value) => {
        const other = Buffer.from(bytes);
        other[HEADER_BYTES + (at % Math.max(1, bytes.length - HEADER_BYTES))] = value;
        expect([undefined, 'BUS_MESSAGE_INVALID']).toContain(codeOf(() => decode(resealed(other))));
      }),
      { numRuns: 1_000 },
    );
  });

  test('is refused when it is noise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
        refused(Buffer.from(noise));
      }),
    );
  });
});

test('what is sealed as a cleanup and is none is refused', () => {
  const mark = { queues: ['events'], position: 7 };
  for (const what of [{ pair: { followerId: 1, followeeId: 2 } }, { post: { authorId: 1, postId: 2 } }])
    expect(decodePendingCleanups(encodeCleanup({ what: [what], mark, step: 2 }))).toEqual({
      what: [what],
      barrier: mark,
      step: 2,
    });
  const refused = (value: unknown) => {
    expect(codeOf(() => decodePendingCleanups(encodeCleanup(value as CleanupMessage)))).toBe(
      'BUS_MESSAGE_INVALID',
    );
  };
  for (const what of [
    undefined,
    {},
    'pair',
    [],
    { pair: { followerId: 1, followeeId: 2 } },
    [{ pair: { followerId: 1, followeeId: 2 } }, { pair: { followerId: 1 } }],
    [{ post: { authorId: 1, postId: -2 } }],
  ])
    refused({ what, mark, step: 0 });
  const pair = { followerId: 1, followeeId: 2 };
  refused({ what: [{ pair }], mark: { position: 7 }, step: 0 });
  for (const step of [undefined, -1, 3, 0.5, '0']) refused({ what: [{ pair }], mark, step });
  fc.assert(fc.property(fc.jsonValue(), refused));
  fc.assert(
    fc.property(fc.uint8Array(), (noise) => {
      expect(codeOf(() => decodePendingCleanups(Buffer.from(noise)))).toBe('BUS_MESSAGE_INVALID');
    }),
  );
});

test.each(FORMATS)('a message of $name is refused by the other decoders', ({ name, message }) => {
  const bytes = fc.sample(message, 1)[0]!;
  for (const other of FORMATS.filter((format) => format.name !== name))
    expect(codeOf(() => other.decode(bytes))).toBe('BUS_MESSAGE_INVALID');
});

test.each(FORMATS)('a message of $name is decoded by its kind', ({ name, message }) => {
  fc.assert(
    fc.property(message, (bytes) => {
      expect(decodeMessage(bytes).kind).toBe(name);
    }),
  );
  for (const bytes of [Buffer.alloc(0), Buffer.from('noise')])
    expect(codeOf(() => decodeMessage(bytes))).toBe('BUS_MESSAGE_INVALID');
});

test('a header with a run or a time that is no number is refused', () => {
  for (const at of [6, 14]) {
    const bytes = encodeEvents({ importId: 1, committedAt: 1 }, []);
    bytes.writeDoubleBE(Number.NaN, at);
    bytes.writeUInt32BE(crc32(bytes.subarray(6)), 2);
    expect(codeOf(() => decodeEvents(bytes))).toBe('BUS_MESSAGE_INVALID');
  }
});
