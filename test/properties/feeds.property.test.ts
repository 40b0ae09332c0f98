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

/** Both may be set from outside. A failure names the seed of its lane: with that one it comes first. */
const COUNT = Number(process.env.FEEDCTL_HISTORIES ?? 2_000);
const SEED = Number(process.env.FEEDCTL_SEED ?? Date.now() % 2 ** 31);
/** Histories side by side: while one waits for the server, another has the processor. */
const LANES = 3;

test(`${COUNT} random histories end as the model says (FEEDCTL_SEED=${SEED})`, {
  timeout: 60_000 + COUNT * 1_000,
}, async () => {
  const lanes = await Promise.all(Array.from({ length: LANES }, () => openLane()));
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
});

test('the same seed takes the same steps', async () => {
  const lane = await openLane();
  for (const history of fc.sample(histories, { seed: SEED, numRuns: 20 })) {
    expect(await runHistory(lane, history)).toEqual(await runHistory(lane, history));
  }
});
