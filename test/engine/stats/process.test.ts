import { expect, test } from 'vitest';
import { ProcessStats } from '../../../src/engine/stats/process.ts';

const NOON = Date.UTC(2026, 0, 1, 12);

test('a worker reports the rows of the last whole step, and its slowest delivery for two steps', () => {
  let now = NOON + 3_000;
  const stats = new ProcessStats(() => now);
  stats.count('deliveries', 40);
  stats.recordLatency(30, 39);
  stats.recordLatency(90, 1);
  expect(stats.workerCounters(40)).toEqual({ rowsWritten: 40, rowsPerSecond: 40, lagMs: 90 });
  // The first step was two seconds long.
  now = NOON + 5_000;
  stats.recordLatency(20, 1);
  expect(stats.workerCounters(40)).toEqual({ rowsWritten: 40, rowsPerSecond: 20, lagMs: 90 });
  stats.count('deliveries', 10);
  now = NOON + 10_000;
  expect(stats.workerCounters(50)).toEqual({ rowsWritten: 50, rowsPerSecond: 2, lagMs: 20 });
  now = NOON + 15_000;
  expect(stats.workerCounters(50)).toEqual({ rowsWritten: 50, rowsPerSecond: 0, lagMs: null });
});
