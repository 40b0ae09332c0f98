import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WINDOW_NAMES, WINDOWS, Windows } from '../../../src/engine/stats/windows.ts';

/** 12:00 UTC: a multiple of every window. */
const NOON = Date.UTC(2026, 0, 1, 12);

test('windows count what a list of everything that happened says, at any time', () => {
  const happenings = fc.array(
    fc.record({
      // Mostly close together, sometimes after hours of silence.
      waitMs: fc.oneof(
        fc.integer({ max: 3_000, min: 0 }),
        fc.integer({ max: 20 * 60_000, min: 0 }),
        fc.integer({ max: 3 * 3_600_000, min: 0 }),
      ),
      by: fc.integer({ min: 1, max: 1_000 }),
    }),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(happenings, (list) => {
      let now = NOON + 123;
      const windows = new Windows(2, () => now);
      const seen: { second: number; by: number }[] = [];
      const sum = (from: number, to: number) =>
        seen.filter(({ second }) => second >= from && second < to).reduce((total, { by }) => total + by, 0);
      for (const { waitMs, by } of list) {
        now += waitMs;
        windows.add(1, by);
        seen.push({ second: Math.floor(now / 1_000), by });
        const at = windows.second;
        for (const window of WINDOW_NAMES) {
          const seconds = WINDOWS[window];
          expect([...windows.sliding(window)], window).toEqual([0, sum(at - seconds, at)]);
          const ended = at - (at % seconds);
          expect(
            windows.tumbling(window).map((counts) => counts[1]),
            window,
          ).toEqual([0, 1, 2, 3].map((n) => sum(ended - (n + 1) * seconds, ended - n * seconds)));
        }
        const end = at - (at % 5);
        expect(windows.series(1, 5, 3)).toEqual([2, 1, 0].map((n) => sum(end - (n + 1) * 5, end - n * 5)));
      }
    }),
    { numRuns: 30 },
  );
});

test('a clock that is set back a little loses nothing and counts nothing twice', () => {
  let now = NOON;
  const windows = new Windows(1, () => now);
  windows.add(0, 3);
  now -= 4_000;
  windows.add(0, 4);
  now = NOON + 1_000;
  expect(windows.sliding('1s')[0]).toBe(7);
  now += 1_000;
  expect(windows.sliding('1s')[0]).toBe(0);
  expect(windows.sliding('1m')[0]).toBe(7);
});

test.each([-3_600, -7, 7, 3_600, 86_400])(
  'a clock that is set by %d s, and back, changes nothing of what was the last minute',
  (by) => {
    let [now, steady] = [NOON + 30_000, 5_000];
    const pass = (ms: number) => {
      now += ms;
      steady += ms;
    };
    const windows = new Windows(
      1,
      () => now,
      () => steady,
    );
    const begun = windows.since;
    windows.add(0, 3);
    pass(10_000);
    for (const set of [by, -by]) {
      now += set * 1_000;
      windows.add(0, 4);
      expect(windows.second).toBe(Math.floor(now / 1_000));
      pass(1_000);
      expect(windows.sliding('1s')[0]).toBe(4);
      expect(windows.second - windows.since).toBe(set === by ? 11 : 17);
      // Wherever steps of five seconds begin now, all of it is in them.
      pass(5_000);
      expect(windows.series(0, 5, 10).reduce((sum, count) => sum + count, 0)).toBe(set === by ? 7 : 11);
    }
    expect(windows.since).toBe(begun);
    expect(windows.sliding('1m')[0]).toBe(11);
    // Whole minutes are those of the clock as it is now.
    pass(60_000);
    expect(windows.sliding('1m')[0]).toBe(0);
    windows.add(0, 5);
    pass(60_000);
    expect(windows.tumbling('1m').map((counts) => counts[0])).toEqual([5, 11, 0, 0]);
    pass(3_600_000);
    expect(windows.sliding('1h')[0]).toBe(0);
  },
);
