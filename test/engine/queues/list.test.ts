import { expect, test } from 'vitest';
import type { LaneState } from '../../../src/engine/model/lanes.ts';
import { aboveLimits, type QueueSample, queueRows } from '../../../src/engine/queues/list.ts';

const running: LaneState[] = [
  { lane: 'live', paused: null, throttled: null },
  { lane: 'bulk', paused: null, throttled: null },
];
const depth = (queue: string, ready: number, unacked = 0) => ({
  queue,
  ready,
  unacked,
  oldestAgeMs: ready > 0 ? 5_000 : 0,
  deadLetters: 0,
  records: null,
  recordUnit: null,
});
const settled = (member: string, count: number, atMs: number) => ({ member, queue: 'events', count, atMs });
const look = (atMs: number, parts: Partial<QueueSample>): QueueSample => ({
  atMs,
  depths: [],
  settled: [],
  lanes: running,
  outbox: false,
  ...parts,
});
const row = (before: QueueSample | undefined, now: QueueSample, queue: string) =>
  queueRows(before, now).find((one) => one.queue === queue);

test('every queue has a row, and one look has no rates', () => {
  const rows = queueRows(undefined, look(0, { depths: [depth('events', 3), depth('live.a', 1)] }));
  expect(rows.map((one) => one.queue)).toEqual([
    'events',
    'events.bulk',
    'rows.live',
    'rows.bulk',
    'cleanup',
    'live.a',
  ]);
  expect(rows[0]).toMatchObject({ ready: 3, inPerSecond: null, outPerSecond: null, etaSeconds: null });
});

test('what left is counted by each member’s own clock, what came is the rest, and it ends when as much again has left', () => {
  const before = look(10_000, {
    depths: [depth('events', 1_000)],
    settled: [settled('a', 500, 9_100), settled('b', 10, 9_800), settled('gone', 7, 9_000)],
  });
  const now = look(12_000, {
    depths: [depth('events', 800, 100)],
    settled: [settled('a', 700, 11_100), settled('b', 60, 11_800), settled('new', 999, 11_900)],
  });
  // 100 and 25 a second left; it is shorter by 50 a second.
  expect(row(before, now, 'events')).toMatchObject({ inPerSecond: 75, outPerSecond: 125, etaSeconds: 18 });
});

test('a queue that grows or stands has no end, and an empty one has ended', () => {
  const before = look(0, { depths: [depth('events', 10), depth('rows.live', 5)] });
  const now = look(1_000, { depths: [depth('events', 30), depth('rows.live', 5)] });
  expect(row(before, now, 'events')).toMatchObject({ inPerSecond: 20, outPerSecond: 0, etaSeconds: null });
  expect(row(before, now, 'rows.live')).toMatchObject({ inPerSecond: 0, etaSeconds: null });
  expect(row(before, now, 'cleanup')).toMatchObject({ inPerSecond: 0, outPerSecond: 0, etaSeconds: 0 });
});

test('what got shorter has left, whether it was noted yet or not', () => {
  const before = look(0, { depths: [depth('events', 50)] });
  expect(row(before, look(1_000, { depths: [depth('events', 20)] }), 'events')).toMatchObject({
    inPerSecond: 0,
    outPerSecond: 30,
    etaSeconds: 0.7,
  });
});

test('a queue is paused with its lane, and cleanups with both', () => {
  const paused = { since: new Date(0), by: 'me', reason: null };
  const [live, bulk] = running.map((lane) => ({ ...lane, paused }));
  const pausedRows = (lanes: LaneState[]) =>
    queueRows(undefined, look(0, { lanes }))
      .filter((one) => one.paused)
      .map((one) => one.queue);
  expect(pausedRows([live!, running[1]!])).toEqual(['events', 'rows.live']);
  expect(pausedRows([running[0]!, bulk!])).toEqual(['events.bulk', 'rows.bulk']);
  expect(pausedRows([live!, bulk!])).toHaveLength(5);
});

test('limits: what is above them, and an age that nobody can tell', () => {
  const rows = queueRows(
    undefined,
    look(0, {
      depths: [depth('events', 3), { ...depth('rows.live', 2), oldestAgeMs: null }, depth('rows.bulk', 0, 9)],
    }),
  );
  expect(aboveLimits(rows, {})).toEqual([]);
  expect(aboveLimits(rows, { maxReady: 2 })).toEqual([
    { queue: 'events', what: 'ready', value: 3, limit: 2 },
  ]);
  expect(aboveLimits(rows, { maxAgeMs: 4_999 })).toEqual([
    { queue: 'events', what: 'ageMs', value: 5_000, limit: 4_999 },
    { queue: 'rows.live', what: 'ageMs', value: null, limit: 4_999 },
  ]);
  expect(aboveLimits(rows, { maxAgeMs: 5_000 })).toHaveLength(1);
});
