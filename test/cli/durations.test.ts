import { expect, test } from 'vitest';
import { durationText, parseDuration } from '../../src/cli/flags/durations.ts';

test.for([
  ['250ms', 250],
  ['1.5s', 1_500],
  ['10m', 600_000],
  ['1h30m', 5_400_000],
  ['7d', 604_800_000],
] as const)('%s is %d ms', ([text, ms]) => {
  expect(parseDuration(text)).toBe(ms);
});

test('a number without a unit has that of the flag', () => {
  expect(parseDuration('5', 's')).toBe(5_000);
  expect(parseDuration('5', 'ms')).toBe(5);
  expect(() => parseDuration('5')).toThrow('5 has no unit: write 5s, 5m or 5h');
});

test.for(['', 'x', '-5s', '5 s', '5w', '1h-30m', '1e3s'])('%j is refused', (text) => {
  expect(() => parseDuration(text, 's')).toThrow('is not a duration');
});

test.for([
  [250, '250ms'],
  [1_500, '1500ms'],
  [90_000, '90s'],
  [600_000, '10m'],
  [86_400_000, '1d'],
  [0, '0ms'],
] as const)('%d ms is typed %s', ([ms, text]) => {
  expect(durationText(ms)).toBe(text);
});
