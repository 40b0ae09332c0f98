import { expect, test } from 'vitest';
import { RateMeter } from '../../../src/engine/util/rateMeter.ts';
import { openProgress, progressText } from '../../../src/ui/terminal/progress.ts';

const at = (snapshot: Partial<Parameters<typeof progressText>[0]>) => ({
  title: 'posting',
  done: 250,
  total: 1_000,
  unit: 'rows',
  perSecond: 50,
  ...snapshot,
});

test('rate and time left, with and without a bar', () => {
  expect(progressText(at({}), { bar: false })).toBe('posting:  250 of 1,000 rows  50/s  15.0 s left');
  expect(progressText(at({}), { bar: true })).toBe(
    'posting:  ██████░░░░░░░░░░░░░░░░░░  250 of 1,000 rows  50/s  15.0 s left',
  );
});

test('where the total, or the time, is not known yet', () => {
  expect(progressText(at({ total: 0 }), { bar: true })).toBe('posting:  250 rows  50/s');
  expect(progressText(at({ done: 0, perSecond: 0 }), { bar: false })).toBe('posting:  0 of 1,000 rows');
  expect(progressText(at({ done: 1_000, note: '3 differ' }), { bar: false })).toBe(
    'posting:  1,000 of 1,000 rows  50/s  3 differ',
  );
});

test('work that stands still promises no end', () => {
  expect(progressText(at({ idleSeconds: 9.9 }), { bar: false })).toMatch(/50\/s {2}15\.0 s left$/);
  expect(progressText(at({ idleSeconds: 75.4 }), { bar: false })).toBe(
    'posting:  250 of 1,000 rows  no progress for 1 m 15 s',
  );
  expect(progressText(at({ done: 1_000, idleSeconds: 75 }), { bar: false })).not.toContain('no progress');
});

test('bytes are shown in units that can be read', () => {
  const moved = at({ title: 'moving', done: 3 * 2 ** 20, total: 2 ** 30, unit: 'bytes', perSecond: 629_145 });
  expect(progressText(moved, { bar: false })).toBe('moving:  3.0 MiB of 1.0 GiB  614 KiB/s  28 m 22 s left');
});

test('a narrow terminal loses whole parts of the line, and the time left last', () => {
  const long = at({
    title: 'delivering',
    done: 1_234_567,
    total: 61_234_567,
    perSecond: 123_456,
    note: '64,000 of 74,909 posts',
  });
  const full = progressText(long, { bar: true });
  for (let width = full.length; width >= 1; width -= 1) {
    const text = progressText(long, { bar: true, width });
    expect(text.length).toBeLessThanOrEqual(width);
    // The shortest form has 45 characters.
    if (width >= 45) expect(text).toContain('8 m 06 s left');
  }
  expect(progressText(long, { bar: true, width: 79 })).toBe(
    'delivering:  ░░░░░░░░░░░░  1,234,567 of 61,234,567 rows  8 m 06 s left',
  );
});

test('the rate is that of the last third, so that slower work promises no early end', () => {
  const meter = new RateMeter(100);
  for (let second = 0; second <= 30; second += 1) meter.add(second, 100 + second * 1_000);
  expect(meter.perSecond).toBe(1_000);
  for (let second = 31; second <= 60; second += 1) meter.add(second, 30_100 + (second - 30) * 10);
  expect(meter.perSecond).toBe(10);
  expect(meter.idleSeconds).toBe(0);
  for (let second = 61; second <= 5_000; second += 0.5) meter.add(second, 30_400);
  expect(meter.perSecond).toBe(0);
  expect(meter.idleSeconds).toBeGreaterThan(4_900);
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

test('what an earlier run did counts for the bar, not for the rate', () => {
  const { written, stream: log } = stream({ isTTY: false });
  let now = 0;
  const progress = openProgress('reading', log, () => now);
  for (; now <= 5_000; now += 1_000)
    progress.update({ done: 150 + now / 50, before: 150, total: 1_000, unit: 'rows' });
  expect(written).toEqual(['reading:  250 of 1,000 rows  20/s  37.5 s left\n']);
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
  for (const [i, line] of written.slice(0, 2).entries()) {
    expect(line).toContain(`\r\u001b[2K${i === 0 ? 1 : 3} of 1,000,000`);
    expect(line.length).toBeLessThanOrEqual('\r\u001b[2K'.length + 19);
  }
  expect(written[2]).toBe('\r\u001b[2K');
});
