import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { runHistory } from './history.ts';
import { openLane } from './lane.ts';
import { countOf, runHistories, SEED, timeoutOf } from './lanes.ts';
import { histories } from './operations.ts';

vi.mock('node:timers/promises', async (original) => {
  const real = await original<typeof import('node:timers/promises')>();
  const { sleepOf } = await import('./simulatedTimers.ts');
  return { ...real, setTimeout: sleepOf(real.setTimeout) };
});

const COUNT = countOf(500);

test(`${COUNT} random histories end as the model says (FEEDCTL_SEED=${SEED})`, {
  timeout: timeoutOf(COUNT),
}, async () => {
  await runHistories(COUNT);
});

test('the same seed takes the same steps', async () => {
  const lane = await openLane();
  for (const history of fc.sample(histories, { seed: SEED, numRuns: 20 })) {
    expect(await runHistory(lane, history)).toEqual(await runHistory(lane, history));
  }
});
