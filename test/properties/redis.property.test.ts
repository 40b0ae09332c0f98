import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { findServer } from '../support/server.ts';
import { runHistory } from './history.ts';
import { openLane } from './lane.ts';
import { histories } from './operations.ts';

vi.mock('node:timers/promises', async (original) => {
  const real = await original<typeof import('node:timers/promises')>();
  const { sleepOf } = await import('./simulatedTimers.ts');
  return { ...real, setTimeout: sleepOf(real.setTimeout) };
});

const COUNT = Number(process.env.FEEDCTL_HISTORIES ?? 600);
const SEED = Number(process.env.FEEDCTL_SEED ?? Date.now() % 2 ** 31);
const LANES = 3;
const url = await findServer('redis');

describe.skipIf(!url)('with a Redis', () => {
  test(`${COUNT} random histories over Redis end as the model says (FEEDCTL_SEED=${SEED})`, {
    timeout: 60_000 + COUNT * 1_000,
  }, async () => {
    const lanes = await Promise.all(Array.from({ length: LANES }, () => openLane(url)));
    await Promise.all(
      lanes.map((lane, i) =>
        fc.assert(
          fc.asyncProperty(histories, async (history) => {
            await runHistory(lane, history);
          }),
          { seed: SEED + i, numRuns: Math.ceil(COUNT / LANES) },
        ),
      ),
    );
    // Pages came out of Redis, or nothing was shown about them.
    for (const { cache } of lanes) expect(cache.stats().hits).toBeGreaterThan(COUNT / LANES);
  });
});
