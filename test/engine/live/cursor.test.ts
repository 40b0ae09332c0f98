import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeCursor, parseCursor, REMEMBERED, REORDER_MS } from '../../../src/engine/live/cursor.ts';
import { DeliveredIds } from '../../../src/engine/live/deliveredIds.ts';
import { firstIdAt, IDS_PER_MS, importedId, MAX_ID } from '../../../src/engine/model/ids.ts';
import { codeOf } from '../../support/codes.ts';

const NOW = Date.UTC(2026, 0, 1);
const refused = (text: string) => codeOf(() => parseCursor(text, NOW));
const ids = fc.uniqueArray(fc.integer({ min: firstIdAt(NOW - 600_000), max: firstIdAt(NOW) }), {
  maxLength: REMEMBERED,
});

test('a cursor says what it was made of', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: firstIdAt(NOW - 600_000) - 1 }), ids, (low, some) => {
      const rising = some.toSorted((a, b) => a - b);
      expect(parseCursor(encodeCursor(low, rising), NOW)).toEqual({ low, ids: rising });
    }),
  );
});

test('the id of a post starts one reorder window earlier', () => {
  const id = firstIdAt(NOW);
  expect(parseCursor(String(id), NOW)).toEqual({ low: firstIdAt(NOW - REORDER_MS), ids: [] });
  expect(parseCursor('7', NOW)).toEqual({ low: 0, ids: [] });
});

test('anything else is refused', () => {
  const good = encodeCursor(firstIdAt(NOW - 1_000), [firstIdAt(NOW)]);
  for (const text of [
    `${good}A`,
    `${good}=`,
    `${good}!`,
    good.slice(0, -1),
    `B${good.slice(1)}`,
    ' ',
    'AQ',
    '-',
    'x'.repeat(5_000),
  ])
    expect(refused(text), text).toBe('INVALID_CURSOR');
  expect(refused(encodeCursor(1, [5, 5]))).toBe('INVALID_CURSOR');
  expect(
    refused(
      encodeCursor(
        1,
        Array.from({ length: REMEMBERED + 1 }, (_, i) => i + 2),
      ),
    ),
  ).toBe('INVALID_CURSOR');
  expect(refused(encodeCursor(1, [MAX_ID, MAX_ID + 2]))).toBe('INVALID_CURSOR');
  expect(refused('9'.repeat(17))).toBe('INVALID_ID');
});

test('a cursor of a time that has not come is one, and is known as such', () => {
  const [soon, ahead] = [firstIdAt(NOW + 500), firstIdAt(NOW + 3_600_000)];
  expect(parseCursor(encodeCursor(1, [soon]), NOW)).toEqual({ low: 1, ids: [soon] });
  expect(parseCursor(encodeCursor(1, [ahead]), NOW)).toEqual({ low: 1, ids: [ahead], isAhead: true });
  expect(parseCursor(encodeCursor(ahead, []), NOW)).toEqual({ low: ahead, ids: [], isAhead: true });
  expect(parseCursor(String(ahead), NOW)).toMatchObject({ ids: [], isAhead: true });
  expect(parseCursor(String(MAX_ID), NOW)).toMatchObject({ isAhead: true });
});

test('whatever text a client sends, it is a cursor or refused', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.base64String(), fc.string({ unit: fc.constantFrom(...'AQEBgICA_-09') })),
      (text) => {
        expect([undefined, 'INVALID_CURSOR', 'INVALID_ID']).toContain(refused(text));
      },
    ),
  );
});

test('what comes a little out of order is sent once, over any number of resumptions', () => {
  const arrivals = fc.array(
    fc.record({
      after: fc.integer({ min: 0, max: 3_000 }),
      late: fc.integer({ min: 0, max: REORDER_MS - 1 }),
      resume: fc.boolean(),
    }),
    { maxLength: 200 },
  );
  fc.assert(
    fc.property(arrivals, (steps) => {
      let at = NOW;
      let session = new DeliveredIds({ low: firstIdAt(NOW - REORDER_MS), ids: [] });
      const sent = new Set<number>();
      for (const [i, { after, late, resume }] of steps.entries()) {
        at += after;
        const id = firstIdAt(at - late) + (i % IDS_PER_MS);
        expect(session.has(id)).toBe(sent.has(id));
        session.add(id, Number.POSITIVE_INFINITY);
        sent.add(id);
        if (resume)
          session = new DeliveredIds(
            parseCursor(encodeCursor(session.cursorWatermark, session.ids, session.from), at),
          );
        for (const one of sent) expect(session.has(one)).toBe(true);
      }
    }),
  );
});

test('a session remembers the posts of a minute, a bounded number of them, and holds its marks when it is told to', () => {
  const session = new DeliveredIds({ low: 0, ids: [] });
  const hold = firstIdAt(NOW);
  const add = (from: number, to: number, everyMs: number) => {
    for (let i = from; i < to; i += 1) session.add(firstIdAt(NOW + 60_000 + i * everyMs), hold);
  };
  add(0, 400, 1_000);
  expect([session.cursorWatermark, session.watermark]).toEqual([hold, hold]);
  add(400, 4_096, 1_000);
  expect(session.watermark).toBe(hold);
  expect(session.has(firstIdAt(NOW + 30_000)), 'late, and not sent').toBe(false);
  add(4_096, 5_000, 1_000);
  expect(session.ids.length).toBe(4_096);
  expect(session.has(firstIdAt(NOW + 30_000))).toBe(true);
  expect(
    parseCursor(encodeCursor(session.cursorWatermark, session.ids, session.from), NOW * 2).ids.length,
  ).toBe(REMEMBERED);
  session.add(firstIdAt(NOW + 6_000_000), Number.POSITIVE_INFINITY);
  expect(session.ids.length).toBe(REMEMBERED);
  expect(session.watermark).toBe(firstIdAt(NOW + 6_000_000 - 60_000));
  expect(encodeCursor(session.cursorWatermark, session.ids, session.from).length).toBeLessThan(200);
});

test('an imported post is sent whatever its time', () => {
  const session = new DeliveredIds({ low: firstIdAt(NOW), ids: [] });
  const id = importedId(Date.UTC(2012, 0, 1) / 1000, 0);
  expect(session.has(id)).toBe(false);
  session.add(id, Number.POSITIVE_INFINITY);
  expect(session.has(id)).toBe(true);
  expect(session.cursorWatermark).toBe(firstIdAt(NOW));
});

test('an imported post of a time to come is sent once, and is no part of the cursor', () => {
  const session = new DeliveredIds({ low: firstIdAt(NOW), ids: [] });
  const ahead = importedId(Math.floor(Date.now() / 1000) + 3_600, 0);
  session.add(ahead, Number.POSITIVE_INFINITY);
  expect(session.has(ahead)).toBe(true);
  const made = firstIdAt(NOW + 1);
  session.add(made, Number.POSITIVE_INFINITY);
  expect([session.cursorWatermark, session.watermark]).toEqual([firstIdAt(NOW), firstIdAt(NOW)]);
  const cursor = parseCursor(encodeCursor(session.cursorWatermark, session.ids, session.from), NOW);
  expect(cursor).toEqual({ low: firstIdAt(NOW), ids: [made] });
});
