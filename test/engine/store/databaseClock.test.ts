import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DatabaseClock } from '../../../src/engine/store/databaseClock.ts';
import type { Log } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { codeOf } from '../../support/codes.ts';

const START = Date.UTC(2026, 0, 1);

/** Two machines, of which the test passes the time. `elapsed` is the true time. */
class World {
  elapsed = 0;
  suspended = 0;
  wallAhead = 0;
  databaseAhead = 0;
  readonly lines: string[] = [];
  readonly log: Log = {
    info: (_, message) => void this.lines.push(message),
    warn: () => {},
    error: (_, message) => void this.lines.push(message),
  };
  readonly machine = {
    wall: () => START + this.elapsed + this.wallAhead,
    monotonic: () => this.elapsed - this.suspended,
  };
  readonly clock: DatabaseClock;

  constructor(options: ConstructorParameters<typeof DatabaseClock>[0] = {}) {
    this.clock = new DatabaseClock({ machine: this.machine, log: this.log, ...options });
  }

  get database(): number {
    return START + this.elapsed + this.databaseAhead;
  }

  /** One round trip: the database reads its clock after `there` milliseconds. */
  async measure(there: number, back: number): Promise<void> {
    await this.clock.measure(
      async () => {
        this.elapsed += there;
        const now = this.database;
        this.elapsed += back;
        return now;
      },
      (now) => now,
    );
  }

  suspend(ms: number): void {
    this.elapsed += ms;
    this.suspended += ms;
  }

  get error(): number {
    return Math.abs(this.clock.now() - this.database);
  }
}

test('before the first measurement the time is that of the machine', () => {
  const world = new World();
  world.wallAhead = 3_600_000;
  expect(world.clock.now()).toBe(START + 3_600_000);
  expect(world.clock.isOff()).toBe(false);
});

test('the error is at most half of the shortest round trip and what clocks drift since, whatever is set meanwhile', async () => {
  const step = fc.record({
    there: fc.integer({ min: 0, max: 2_000 }),
    back: fc.integer({ min: 0, max: 2_000 }),
    rest: fc.integer({ min: 0, max: 10_000 }),
    wallAhead: fc.integer({ min: -7_200_000, max: 7_200_000 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
      const world = new World();
      let bound = Number.POSITIVE_INFINITY;
      for (const { there, back, rest, wallAhead } of steps) {
        // Measurements from before the clock was set do not count: it may have been a suspension.
        if (Math.abs(wallAhead - world.wallAhead) > 250) bound = Number.POSITIVE_INFINITY;
        world.wallAhead = wallAhead;
        await world.measure(there, back);
        bound = Math.min(bound + (there + back + rest) * 0.0005, (there + back) / 2 + rest * 0.0005);
        world.elapsed += rest;
        expect(world.error).toBeLessThanOrEqual(bound + 1);
      }
    }),
  );
});

test('a machine that was suspended knows that it must measure, and is right afterwards', async () => {
  const world = new World();
  await world.measure(1, 1);
  expect(world.clock.hasStepped).toBe(false);
  world.suspend(3_600_000);
  expect(world.clock.hasStepped).toBe(true);
  // A slow round trip is better than none from before the suspension.
  await world.measure(2_000, 0);
  expect(world.clock.hasStepped).toBe(false);
  expect(world.error).toBeLessThanOrEqual(1_000);
  await world.measure(1, 2);
  expect(world.error).toBeLessThanOrEqual(1);
});

test('a suspension within a round trip does not count as a measurement', async () => {
  const world = new World();
  await world.measure(1, 1);
  await world.clock.measure(
    async () => {
      const now = world.database;
      world.suspend(60_000);
      return now;
    },
    (now) => now,
  );
  expect(world.clock.hasStepped).toBe(true);
  await world.measure(1, 1);
  expect(world.error).toBeLessThanOrEqual(1);
});

test('the clock of another server counts from the first measurement that contradicts the earlier ones', async () => {
  const world = new World();
  for (let i = 0; i < 20; i += 1) await world.measure(1, 1);
  world.databaseAhead = -1_500;
  await world.measure(10, 30);
  expect(world.error).toBeLessThanOrEqual(20);
});

test('a difference beyond the limit is refused, logged once, and shown by the metric', async () => {
  const metrics = await openMetrics();
  const world = new World({ metrics });
  const shown = async () => /^feedctl_clock_offset_seconds (\S+)$/m.exec(await metrics.text())?.[1];
  expect(await shown()).toBeUndefined();
  world.wallAhead = 4_900;
  await world.measure(1, 1);
  world.clock.check();
  expect(await shown()).toBe('4.9');
  world.wallAhead = 6_000;
  for (let i = 0; i < 3; i += 1) expect(codeOf(() => world.clock.check())).toBe('CLOCK_OFF');
  expect(world.lines).toEqual([expect.stringContaining('not ready')]);
  world.wallAhead = -3_000;
  world.clock.check();
  world.clock.check();
  expect(world.lines).toEqual([expect.anything(), 'the clock is right again']);
  expect(await shown()).toBe('-3');
  world.clock.close();
  expect(await shown()).toBeUndefined();
});

test('a round trip that is too slow to say so refuses nothing', async () => {
  const world = new World();
  await world.measure(14_000, 0);
  expect(Math.abs(world.clock.offsetMs)).toBe(7_000);
  world.clock.check();
  await world.measure(1, 1);
  expect(Math.abs(world.clock.offsetMs)).toBeLessThanOrEqual(1);
});
