import { expect, test } from 'vitest';
import { HeavyHitters } from '../../../src/engine/util/heavyHitters.ts';

test('whoever reads often is among the hot, however many others read once', () => {
  const hot = new HeavyHitters(10);
  for (let i = 0; i < 5_000; i += 1) {
    hot.add(1_000 + i);
    if (i % 3 === 0) hot.add(1);
    if (i % 4 === 0) hot.add(2);
  }
  expect(hot.top(2).map(({ key }) => key)).toEqual([1, 2]);
  expect(hot.top(1)[0]!.count).toBeGreaterThan(hot.top(2)[1]!.count);
  expect(hot.top(100)).toHaveLength(10);
});

test('who read most long ago gives way to who reads now', () => {
  const hot = new HeavyHitters(4);
  for (let i = 0; i < 300; i += 1) hot.add(1);
  for (let i = 0; i < 2_000; i += 1) hot.add(2);
  expect(hot.top(1)).toMatchObject([{ key: 2 }]);
});
