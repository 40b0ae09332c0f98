import { expect, test } from 'vitest';
import { Coalesced } from '../../../src/engine/util/coalesce.ts';

test('calls during a run share the next run', async () => {
  const runs: PromiseWithResolvers<number>[] = [];
  const coalesced = new Coalesced(() => {
    const run = Promise.withResolvers<number>();
    runs.push(run);
    return run.promise;
  });
  const first = coalesced.run();
  await expect.poll(() => runs.length).toBe(1);
  const [second, third] = [coalesced.run(), coalesced.run()];
  expect(coalesced.waiting).toBe(true);
  runs[0]!.resolve(1);
  expect(await first).toBe(1);
  await expect.poll(() => runs.length).toBe(2);
  expect(coalesced.waiting).toBe(false);
  runs[1]!.resolve(2);
  expect(await Promise.all([second, third])).toEqual([2, 2]);
  await coalesced.idle();
  expect(runs).toHaveLength(2);
});

test('a run that fails fails its own callers, and the next run takes place', async () => {
  let calls = 0;
  const coalesced = new Coalesced(async () => {
    if (++calls === 1) throw new Error('once');
    return calls;
  });
  await expect(coalesced.run()).rejects.toThrow('once');
  expect(await coalesced.run()).toBe(2);
});
