import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { runHistory } from './history.ts';
import { openLane } from './lane.ts';
import { histories } from './operations.ts';

vi.mock('node:timers/promises', async (original) => {
  const real = await original<typeof import('node:timers/promises')>();
  const { sleepOf } = await import('./simulatedTimers.ts');
  return { ...real, setTimeout: sleepOf(real.setTimeout) };
});

const COUNT = Number(process.env.FEEDCTL_HISTORIES ?? 2_000);
const SEED = Number(process.env.FEEDCTL_SEED ?? Date.now() % 2 ** 31);
/** Histories side by side: while one waits for the server, another has the processor. */
const LANES = 3;

test(`${COUNT} random histories end as the model says (FEEDCTL_SEED=${SEED})`, {
  timeout: 60_000 + COUNT * 1_000,
}, async () => {
  const lanes = await Promise.all(Array.from({ length: LANES }, () => openLane()));
  const startedAt = performance.now();
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
  process.stderr.write(`${COUNT / ((performance.now() - startedAt) / 1000)} histories a second\n`);
  expect(true).toBe(true);
});
