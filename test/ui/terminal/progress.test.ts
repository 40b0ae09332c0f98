import { expect, test } from 'vitest';
import { openProgress, progressText } from '../../../src/ui/terminal/progress.ts';

const at = (snapshot: Partial<Parameters<typeof progressText>[0]>) => ({
  title: 'posting',
  done: 250,
  total: 1_000,
  unit: 'rows',
  elapsedSeconds: 5,
  ...snapshot,
});

test('rate and time left, with and without a bar', () => {
  expect(progressText(at({}), { bar: false })).toBe('posting:  250 of 1,000 rows  50/s  15.0 s left');
  expect(progressText(at({}), { bar: true })).toBe(
    'posting:  ██████░░░░░░░░░░░░░░░░░░  250 of 1,000 rows  50/s  15.0 s left',
  );
});

test('where the total, or the time, is not known yet', () => {
  expect(progressText(at({ before: 150 }), { bar: false })).toBe(
    'posting:  250 of 1,000 rows  20/s  37.5 s left',
  );
  expect(progressText(at({ total: 0 }), { bar: true })).toBe('posting:  250 rows  50/s');
  expect(progressText(at({ done: 0, elapsedSeconds: 0 }), { bar: false })).toBe('posting:  0 of 1,000 rows');
  expect(progressText(at({ done: 1_000, note: '3 differ' }), { bar: false })).toBe(
    'posting:  1,000 of 1,000 rows  200/s  3 differ',
  );
});

test('bytes are shown in units that can be read', () => {
  const moved = at({ title: 'moving', done: 3 * 2 ** 20, total: 2 ** 30, unit: 'bytes' });
  expect(progressText(moved, { bar: false })).toBe('moving:  3.0 MiB of 1.0 GiB  614 KiB/s  28 m 22 s left');
});

function stream(options: { isTTY: boolean; columns?: number }) {
  const written: string[] = [];
  const write = (text: string) => written.push(text) > 0;
  return { written, stream: { ...options, write } as unknown as NodeJS.WriteStream };
}

test('a log gets a plain line every five seconds, and no escape codes', () => {
  const { written, stream: log } = stream({ isTTY: false });
  let now = 0;
  const progress = openProgress('reading', log, () => now);
  for (; now <= 12_000; now += 500) progress.update({ done: now, unit: 'pairs' });
  progress.end();
  expect(written).toEqual(['reading:  5,000 pairs  1,000/s\n', 'reading:  10,000 pairs  1,000/s\n']);
});

test('a terminal gets one line, cut to its width and taken away at the end', () => {
  const { written, stream: terminal } = stream({ isTTY: true, columns: 20 });
  let now = 1_000;
  const progress = openProgress('reading', terminal, () => now);
  progress.update({ done: 1, total: 1_000_000, unit: 'pairs' });
  now += 10;
  progress.update({ done: 2, total: 1_000_000, unit: 'pairs' });
  now += 100;
  progress.update({ title: 'writing', done: 3, total: 1_000_000, unit: 'pairs' });
  progress.end();
  progress.end();
  expect(written.length).toBe(3);
  expect(written[0]).toContain('\r\u001b[2Kreading:');
  expect(written[1]).toContain('\r\u001b[2Kwriting:');
  for (const line of written.slice(0, 2)) expect(line.length).toBeLessThanOrEqual('\r\u001b[2K'.length + 19);
  expect(written[2]).toBe('\r\u001b[2K');
});
