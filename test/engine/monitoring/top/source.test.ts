import { expect, test } from 'vitest';
import { FeedctlError } from '../../../../src/engine/model/errors.ts';
import { Source } from '../../../../src/engine/monitoring/top/source.ts';

/** A source with a clock that the test sets. */
function sourceThat(ask: (clock: { now: number }) => Promise<string>, everyMs = 2_000) {
  const clock = { now: 1_000_000 };
  let asked = 0;
  const source = new Source('it', { everyMs, deadlineMs: 5, now: () => clock.now }, () => {
    asked += 1;
    return ask(clock);
  });
  return {
    source,
    clock,
    /** Advances the clock, refreshes, and returns the number of requests. */
    after: async (ms: number, intervalMs = 1_000) => {
      clock.now += ms;
      const before = asked;
      await source.refresh(intervalMs);
      // The next request waits for a late answer too.
      await new Promise((done) => setImmediate(done));
      return asked - before;
    },
  };
}

test('what took long is asked for 5% of the time, whether it answered, failed or ran into its deadline', async () => {
  const late = Promise.withResolvers<string>();
  const ways: [string, (clock: { now: number }) => Promise<string>][] = [
    ['answered', () => Promise.resolve('here')],
    ['failed', () => Promise.reject(new FeedctlError('DATABASE_ERROR', 'no such table'))],
    ['TIMED_OUT', () => late.promise],
  ];
  for (const [name, way] of ways) {
    const { source, clock, after } = sourceThat((at) => {
      at.now += 500;
      return way(at);
    });
    await source.refresh(1_000);
    late.resolve('late');
    await new Promise((done) => setImmediate(done));
    const askedAt = clock.now - 500;
    expect(source.state.everyMs, name).toBe(10_000);
    expect(await after(askedAt + 9_900 - clock.now), name).toBe(0);
    expect(await after(askedAt + 10_000 - clock.now), name).toBe(1);
  }
});

test('who cannot be reached has no work of it, and is tried again soon', async () => {
  const { source, after } = sourceThat((clock) => {
    clock.now += 4_000;
    return Promise.reject(new FeedctlError('DATABASE_UNREACHABLE', 'connection timed out'));
  }, 60_000);
  await source.refresh(1_000);
  expect(source.state.everyMs).toBe(8_000);
  expect(await after(3_900)).toBe(0);
  expect(await after(100)).toBe(1);
});

test('what it takes to connect is no work of whoever answers', async () => {
  let now = 0;
  const options = { everyMs: 1_000, deadlineMs: 5_000, now: () => now };
  const source = new Source('it', options, async (begin) => {
    now += 900;
    begin();
    now += 2;
    return 'here';
  });
  await source.refresh();
  expect(source.state).toMatchObject({ tookMs: 2, everyMs: 1_000 });
});

test('a shorter interval holds from when it is chosen, and a longer one too', async () => {
  const { source, after } = sourceThat(() => Promise.resolve('here'), 0);
  await source.refresh(60_000);
  expect(await after(2_000, 60_000)).toBe(0);
  expect(await after(0, 1_000)).toBe(1);
  expect(await after(1_000, 30_000)).toBe(0);
  expect(await after(28_000, 30_000)).toBe(0);
  expect(source.state.everyMs).toBe(30_000);
  expect(await after(1_000, 30_000)).toBe(1);
});
