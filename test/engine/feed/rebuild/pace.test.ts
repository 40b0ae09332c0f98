import { expect, test } from 'vitest';
import type { Bus } from '../../../../src/engine/bus/bus.ts';
import { ChunkSize, LivePriority } from '../../../../src/engine/feed/rebuild/pace.ts';
import { postgresRebuild } from '../../../../src/engine/feed/rebuild/postgres.ts';
import { listedUsers } from '../../../../src/engine/feed/rebuild/users.ts';

test('chunks grow while they are quick, and shrink where they are slow, within bounds', () => {
  const size = new ChunkSize(postgresRebuild.chunkLimits);
  const first = size.feeds;
  size.took(30, false);
  expect(size.feeds).toBe(first * 2);
  for (let i = 0; i < 20; i += 1) size.took(1, false);
  expect(size.feeds).toBe(1_000);
  size.took(30, true);
  expect(size.feeds, 'shorter where others wait').toBe(500);
  for (let i = 0; i < 20; i += 1) size.took(10_000, false);
  expect(size.feeds).toBe(10);
  expect(new ChunkSize(postgresRebuild.chunkLimits, 3).feeds).toBe(3);
});

test('while live fan-out has work, chunks come one after the other; else side by side', async () => {
  const most = async (bus: Pick<Bus, 'holds' | 'throughput'>) => {
    const live = new LivePriority(bus);
    const { signal } = new AbortController();
    let now = 0;
    let together = 0;
    const work = async () => {
      now += 1;
      together = Math.max(together, now);
      await new Promise((done) => setTimeout(done, 5));
      now -= 1;
    };
    // The first check precedes any work. The second finds messages that have left the queues since.
    await live.run(() => new Promise((done) => setTimeout(done, 110)), signal);
    await live.run(async () => {}, signal);
    await Promise.all([live.run(work, signal), live.run(work, signal)]);
    return { together, busy: live.busy };
  };
  const holding = (...held: string[]) => ({
    holds: async (queues: readonly string[]) => queues.some((queue) => held.includes(queue)),
    throughput: async () => [],
  });
  let left = 0;
  const passing = (queue: string) => ({
    holds: async () => false,
    throughput: async () => {
      left += 1;
      return [{ member: 'worker', queue, count: left, atMs: 0 }];
    },
  });
  expect(await most(holding('rows.live'))).toEqual({ together: 1, busy: true });
  expect(await most(passing('events'))).toEqual({ together: 1, busy: true });
  for (const idle of [holding('rows.bulk'), passing('events.bulk')])
    expect(await most(idle)).toEqual({ together: 2, busy: false });
});

test('users of a list come after any id, as many as asked for', async () => {
  const users = listedUsers([3, 5, 8]);
  expect(await users.after(0, 2)).toEqual([3, 5]);
  expect(await users.after(3, 2)).toEqual([5, 8]);
  expect(await users.after(6, 2)).toEqual([8]);
  expect(await users.after(8, 2)).toEqual([]);
  expect([await users.count(), await users.at(1), await users.at(3)]).toEqual([3, 5, undefined]);
});
