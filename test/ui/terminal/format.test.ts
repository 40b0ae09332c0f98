import { expect, test } from 'vitest';
import { bar, formatCount, formatDuration, oneLine } from '../../../src/ui/terminal/format.ts';

test('counts and durations', () => {
  expect([0, 999, 1_234.6, 1_234_567].map(formatCount)).toEqual(['0', '999', '1,235', '1,234,567']);
  expect([0, 0.85, 2.44, 59, 60, 185, 7_322].map(formatDuration)).toEqual([
    '0 ms',
    '850 ms',
    '2.4 s',
    '59.0 s',
    '1 m 00 s',
    '3 m 05 s',
    '2 h 02 m',
  ]);
  // What rounds up to the next unit is said in that unit.
  expect([0.9996, 59.97].map(formatDuration)).toEqual(['1.0 s', '1 m 00 s']);
});

test('a bar is as wide as it is told, whatever the fraction', () => {
  expect(bar(0.5, 4)).toBe('██░░');
  for (const fraction of [-1, 0, 0.3, 1, 7]) expect(bar(fraction, 10).length).toBe(10);
});

test('nobody’s text moves the cursor or breaks the line', () => {
  expect(oneLine('a\u001b[31mred\r\nb\tc', 40)).toBe('a [31mred b c');
  expect(oneLine('right\u202eleft', 40)).toBe('right left');
  expect(oneLine('abcdef', 4)).toBe('abc…');
  expect(oneLine('abcd', 4)).toBe('abcd');
  expect(oneLine('🦊🦊🦊', 4).isWellFormed()).toBe(true);
});
