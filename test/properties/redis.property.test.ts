import { describe, expect, test, vi } from 'vitest';
import { findServer } from '../support/server.ts';
import { countOf, runHistories, SEED, timeoutOf } from './lanes.ts';

vi.mock('node:timers/promises', async (original) => {
  const real = await original<typeof import('node:timers/promises')>();
  const { sleepOf } = await import('./simulatedTimers.ts');
  return { ...real, setTimeout: sleepOf(real.setTimeout) };
});

const COUNT = countOf(150);
const url = await findServer('redis');

describe.skipIf(!url)('with a Redis', () => {
  test(`${COUNT} random histories over Redis end as the model says (FEEDCTL_SEED=${SEED})`, {
    timeout: timeoutOf(COUNT),
  }, async () => {
    const lanes = await runHistories(COUNT, url);
    // Without hits the histories would not have tested Redis.
    for (const { cache } of lanes) expect(cache.stats().hits).toBeGreaterThan(COUNT / lanes.length);
  });
});
