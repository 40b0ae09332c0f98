import { expect, test } from 'vitest';
import { ProcessStats } from '../../../src/engine/stats/process.ts';
import type { StatsRow } from '../../../src/engine/stats/table.ts';
import { aggregate } from '../../../src/engine/stats/totals.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';

const NOON = Date.UTC(2026, 0, 1, 12);

const rowOf = (stats: ProcessStats, row: Partial<StatsRow> = {}, report = stats.report()): StatsRow => ({
  id: 'p',
  host: 'h',
  pid: 7,
  worker: 'w',
  gateway: null,
  sockets: null,
  memoryBytes: 1,
  cpu: 0,
  ageMs: 0,
  seenAt: report.at,
  // As it comes back from the database.
  figures: JSON.parse(JSON.stringify(report)),
  errors: stats.errors,
  ...row,
});

test('an empty cluster has figures: nothing', () => {
  const figures = aggregate([]);
  expect(figures.rates.deliveries.sliding['1h']).toEqual({ count: 0, perSecond: 0 });
  expect(figures.rates.deliveries.tumbling['1s']).toEqual({ count: 0, perSecond: 0 });
  expect(figures.latencyMs['1m']).toBeNull();
  expect(figures.series.deliveries).toHaveLength(60);
  expect(figures.tumblingEndedAt['5m']).toBeNull();
});

test('processes whose heartbeats are seconds apart are added up over the same time', () => {
  let now = NOON;
  const one = new ProcessStats(() => now);
  const other = new ProcessStats(() => now);
  const reports: StatsRow[] = [];
  for (let second = 0; second < 61; second += 1) {
    one.count('deliveries', 10);
    other.count('deliveries', 1 + second);
    other.recordLatency(20, 199);
    one.recordLatency(800, 1);
    now += 1_000;
    // At 60 s the first has completed the minute; the last report of the other is two seconds older.
    if (second === 58) reports.push(rowOf(other, { worker: null, gateway: 'g', sockets: 5 }));
  }
  reports.push(rowOf(one));
  const { rates, tumblingEndedAt, latencyMs, series, sockets } = aggregate(reports);
  // Each one's own last minute, the other's not whole.
  expect(rates.deliveries.sliding['1m'].count).toBe(600 + (59 * 60) / 2);
  expect(rates.deliveries.sliding['1h'].perSecond).toBeCloseTo((610 + 1_770) / 61, 1);
  // The second that both have completed: the 59th.
  expect(tumblingEndedAt['1s']).toBe(new Date(NOON + 59_000).toISOString());
  expect(rates.deliveries.tumbling['1s'].count).toBe(10 + 59);
  // The minute that both have completed was before either began.
  expect(tumblingEndedAt['1m']).toBe(new Date(NOON).toISOString());
  expect(rates.deliveries.tumbling['1m'].count).toBe(0);
  expect(latencyMs['1m']!.p50).toBeGreaterThan(16);
  expect(latencyMs['1m']!.p50).toBeLessThan(24);
  expect(latencyMs['1m']!.p99).toBeLessThan(30);
  // The last whole step of both: five seconds from 55 s of the first, and from 50 s of the other,
  // which knows no later one.
  expect(series.deliveries.at(-1)).toBe(50);
  expect(series.deliveries.at(-2)).toBe(50 + 51 + 52 + 53 + 54 + 55);
  expect(sockets).toBe(5);

  now = NOON + 122_000;
  const later = aggregate([rowOf(one), rowOf(other)]);
  expect(later.tumblingEndedAt['1m']).toBe(new Date(NOON + 120_000).toISOString());
  expect(later.rates.deliveries.tumbling['1m'].count).toBe(10 + 61);
});

test('who is hot is of the last whole minute, over all processes', () => {
  let now = NOON;
  const [one, other] = [new ProcessStats(() => now), new ProcessStats(() => now)];
  one.recordPlanned(1, 100);
  one.recordPlanned(2, 500);
  other.recordPlanned(1, 450);
  other.recordRead(9);
  expect(aggregate([rowOf(one), rowOf(other)]).hotAuthors).toEqual([]);
  now += 60_000;
  const { hotAuthors, hotReaders } = aggregate([rowOf(one), rowOf(other)]);
  expect(hotAuthors).toEqual([
    { userId: 1, rows: 550 },
    { userId: 2, rows: 500 },
  ]);
  expect(hotReaders).toEqual([{ userId: 9, pages: 1 }]);
  now += 60_000;
  expect(aggregate([rowOf(one)]).hotAuthors).toEqual([]);
});

test('who was seen in a minute is counted in full, however often', () => {
  let now = NOON;
  const stats = new ProcessStats(() => now);
  for (let i = 0; i < 20_000; i += 1) {
    stats.recordPlanned(1, 10);
    stats.recordRead(9);
  }
  now += 60_000;
  const { hotAuthors, hotReaders } = aggregate([rowOf(stats)]);
  expect(hotAuthors).toEqual([{ userId: 1, rows: 200_000 }]);
  expect(hotReaders).toEqual([{ userId: 9, pages: 20_000 }]);
});

test.each([3_600, -3_600])('a process whose clock is off by %d s takes nothing from the others', (off) => {
  let now = NOON;
  const [right, wrong] = [new ProcessStats(() => now), new ProcessStats(() => now + off * 1_000)];
  for (let second = 0; second < 61; second += 1) {
    right.count('deliveries', 10);
    wrong.count('deliveries', 1);
    now += 1_000;
  }
  const seenAt = now / 1_000;
  const { rates, series, tumblingEndedAt } = aggregate([rowOf(right, { seenAt }), rowOf(wrong, { seenAt })]);
  expect(rates.deliveries.sliding['1h']).toEqual({ count: 671, perSecond: 11 });
  expect(rates.deliveries.tumbling['1m'].count).toBe(660);
  expect(tumblingEndedAt['1m']).toBe(new Date(NOON + 60_000).toISOString());
  expect(series.deliveries.slice(-2)).toEqual([55, 55]);
  expect(series.endsAt).toBe(new Date(NOON + 60_000).toISOString());
});

test('warnings and errors are remembered, the same ones as one, and never more than twenty', () => {
  let now = NOON;
  const stats = new ProcessStats(() => now);
  const logged: string[] = [];
  const log = stats.watchLog({ ...silentLog, warn: (_, message) => void logged.push(message) });
  log.info({}, 'nothing to see');
  log.warn({ queue: 'events', reason: 'no route' }, 'message will be tried again');
  now += 5_000;
  log.warn({ queue: 'events', reason: 'no route' }, 'message will be tried again');
  log.error({ code: 'TIMED_OUT', reason: 'x'.repeat(1_000) }, 'request failed');
  expect(logged).toHaveLength(2);
  const [newest, again] = stats.errors;
  expect(newest).toMatchObject({ level: 'error', code: 'TIMED_OUT', count: 1 });
  expect(newest!.text.length).toBe(200);
  expect(again).toEqual({
    level: 'warn',
    code: null,
    text: 'message will be tried again: events: no route',
    count: 2,
    firstAt: new Date(NOON).toISOString(),
    lastAt: new Date(NOON + 5_000).toISOString(),
  });
  for (let n = 0; n < 50; n += 1) log.warn({ reason: `reason ${n}` }, 'task failed');
  expect(stats.errors).toHaveLength(20);
  now += 1_000;
  const { errors, rates } = aggregate([rowOf(stats)]);
  expect(errors).toHaveLength(20);
  expect(errors[0]).toMatchObject({ role: 'worker', host: 'h', pid: 7 });
  expect(rates.errors.sliding['1m'].count).toBe(53);
});
