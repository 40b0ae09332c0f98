import { expect, test } from 'vitest';
import { Throttle } from '../../../src/engine/util/throttle.ts';

test('a lane without a rate never waits, and its batches are as big as they may be', () => {
  const pace = new Throttle(() => 0);
  pace.spend(1_000_000);
  expect([pace.waitMs, pace.maxBatch(32_768), pace.isLimited]).toEqual([0, 32_768, false]);
});

test('over any time a lane writes as many rows as its rate says, and one message more at most', () => {
  let now = 0;
  const pace = new Throttle(() => now);
  pace.setRate(1_000);
  expect(pace.maxBatch(32_768)).toBe(500);
  let rows = 0;
  // Batches may have any size, because a message is written as a whole.
  for (let i = 0; now < 60_000; i += 1) {
    expect(pace.waitMs).toBe(0);
    const batch = [1, 500, 8_192, 37][i % 4]!;
    pace.spend(batch);
    rows += batch;
    now += pace.waitMs;
  }
  expect(rows / (now / 1_000)).toBeCloseTo(1_000, 6);
});

test('time without messages is not saved up', () => {
  let now = 0;
  const pace = new Throttle(() => now);
  pace.setRate(100);
  now = 3_600_000;
  pace.spend(100);
  expect(pace.waitMs).toBe(1_000);
});

test('what is owed is owed at the new rate, and nothing where the limit is lifted', () => {
  let now = 0;
  const pace = new Throttle(() => now);
  pace.setRate(1_000);
  pace.spend(8_000);
  now = 2_000;
  pace.setRate(2_000);
  expect(pace.waitMs).toBe(3_000);
  pace.setRate(2_000);
  expect(pace.waitMs, 'told the same again').toBe(3_000);
  pace.setRate(undefined);
  expect(pace.waitMs).toBe(0);
  pace.setRate(10);
  expect(pace.waitMs).toBe(0);
});
