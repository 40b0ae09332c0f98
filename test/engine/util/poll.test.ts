import { expect, test } from 'vitest';
import { poll } from '../../../src/engine/util/poll.ts';

test('a poll returns the first truthy value of its check', async () => {
  let calls = 0;
  expect(await poll(async () => (++calls === 3 ? 'here' : ''), { everyMs: 1 })).toBe('here');
  expect(calls).toBe(3);
});

test('a poll returns the last falsy value when its time is up, and checks once in any case', async () => {
  let calls = 0;
  expect(await poll(() => ++calls < 0, { everyMs: 5, timeoutMs: 0 })).toBe(false);
  expect(calls).toBe(1);
});

test('a poll ends when the signal aborts, and passes on what the check throws', async () => {
  const stop = new AbortController();
  const polling = poll(() => false, { everyMs: 60_000, signal: stop.signal });
  stop.abort();
  await expect(polling).rejects.toMatchObject({ name: 'AbortError' });
  await expect(poll(() => Promise.reject(new Error('broken')), { everyMs: 1 })).rejects.toThrow('broken');
});
