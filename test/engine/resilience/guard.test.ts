import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { type GuardOptions, isUnavailable, openGuard } from '../../../src/engine/resilience/guard.ts';
import { retry } from '../../../src/engine/resilience/retry.ts';
import { rejection } from '../../support/codes.ts';

const DOWN = () => Promise.reject(new FeedctlError('DATABASE_UNREACHABLE', 'gone'));
const HEALTHY = () => Promise.resolve('well');
const TIMED_OUT = () => Promise.reject(new FeedctlError('TIMED_OUT', 'late'));

/** A guard with a clock that the test sets. */
function guarded(options: Partial<GuardOptions> = {}) {
  let now = 0;
  const guard = openGuard({ dependency: 'database', now: () => now, ...options });
  const times = async (count: number, call: () => Promise<unknown>) => {
    for (let i = 0; i < count; i += 1) await guard.run(call).catch(() => {});
  };
  const pass = (ms: number) => {
    now += ms;
  };
  /** Makes concurrent calls of the same duration. */
  const slowly = async (count: number, ms: number) => {
    const gate = Promise.withResolvers<void>();
    const calls = Array.from({ length: count }, () => guard.run(() => gate.promise));
    pass(ms);
    gate.resolve();
    await Promise.all(calls);
  };
  return { guard, times, slowly, pass };
}

test('half of the calls of the last 30 s failing opens it, and not a call less', async () => {
  const { guard, times } = guarded();
  await times(11, HEALTHY);
  await times(10, DOWN);
  expect(guard.state).toBe('closed');
  await times(1, DOWN);
  expect(guard.state).toBe('open');
  let called = false;
  const call = async () => {
    called = true;
  };
  expect(await rejection(guard.run(call))).toMatchObject({ code: 'CIRCUIT_OPEN' });
  expect(called).toBe(false);
});

test('a few calls prove nothing, nor do those of long ago', async () => {
  const { guard, times, pass } = guarded();
  await times(19, DOWN);
  expect(guard.state).toBe('closed');
  pass(31_000);
  await times(19, DOWN);
  expect(guard.state).toBe('closed');
  pass(10_000);
  await times(1, DOWN);
  expect(guard.state).toBe('open');
});

test('ten timeouts within a minute open it, whatever else goes well', async () => {
  const { guard, times, pass } = guarded();
  for (let i = 0; i < 9; i += 1) {
    await times(100, HEALTHY);
    await times(1, TIMED_OUT);
    pass(5_000);
  }
  expect(guard.state).toBe('closed');
  pass(20_000);
  await times(1, TIMED_OUT);
  expect(guard.state).toBe('closed');
  await times(100, HEALTHY);
  pass(1_000);
  await times(3, TIMED_OUT);
  expect(guard.state).toBe('open');
});

test('more than one in twenty calls over the limit opens it: p95 is past it', async () => {
  const { guard, times, slowly } = guarded({ slowMs: 5_000 });
  await times(95, HEALTHY);
  await slowly(5, 5_001);
  expect(guard.state).toBe('closed');
  await slowly(1, 5_001);
  expect(guard.state).toBe('open');
  const patient = guarded();
  await patient.slowly(40, 6_000);
  expect(patient.guard.state).toBe('closed');
});

test('an answer that says no is an answer: the server is there', async () => {
  const { guard, times } = guarded();
  for (const code of ['USER_NOT_FOUND', 'QUEUE_FULL', 'OVERLOADED', 'DATABASE_ERROR'] as const)
    await times(30, () => Promise.reject(new FeedctlError(code, 'no')));
  await times(30, () => Promise.reject(Object.assign(new Error('duplicate'), { code: '23505' })));
  await times(30, () => Promise.reject(new DOMException('aborted', 'AbortError')));
  expect(guard.state).toBe('closed');
  const deadlock = Object.assign(new Error('deadlock'), { code: '40P01' });
  expect(isUnavailable(new FeedctlError('DATABASE_ERROR', '', { cause: deadlock }))).toBe(false);
});

test('one call probes an open circuit while all others are refused; its success closes it', async () => {
  const { guard, times } = guarded();
  await times(20, DOWN);
  const probe = Promise.withResolvers<string>();
  let probing: Promise<string> | undefined;
  let calls = 0;
  while (!probing) {
    const run = guard.run(() => {
      calls += 1;
      return probe.promise;
    });
    await Promise.race([run.catch(() => {}), sleep(20)]);
    if (guard.state === 'half-open') probing = run;
  }
  expect(calls).toBe(1);
  expect(await rejection(guard.run(HEALTHY))).toMatchObject({ code: 'CIRCUIT_OPEN' });
  probe.resolve('back');
  expect(await probing).toBe('back');
  expect(guard.state).toBe('closed');
  expect(await guard.run(HEALTHY)).toBe('well');
  await times(18, DOWN);
  expect(guard.state, 'what was before it opened is forgotten').toBe('closed');
});

test('a probe that fails keeps it open; a probe of its own goes ahead of the work', async () => {
  let alive = false;
  const probe = () => (alive ? HEALTHY() : DOWN());
  const { guard, times } = guarded({ probe });
  await times(20, DOWN);
  const calls: string[] = [];
  const call = async () => {
    calls.push(guard.state);
  };
  const codes = new Set<string>();
  const until = async (done: () => boolean) => {
    while (!done()) {
      await guard.run(call).catch((error: FeedctlError) => codes.add(error.code));
      await sleep(20);
    }
  };
  await until(() => codes.has('DATABASE_UNREACHABLE'));
  expect(guard.state).toBe('open');
  expect(calls).toEqual([]);
  alive = true;
  await until(() => calls.length > 0);
  expect(calls).toEqual(['closed']);
});

test('so many calls at a time, so many wait, and the next is refused to its face', async () => {
  const { guard } = guarded({ concurrency: 2, waiting: 3 });
  const gate = Promise.withResolvers<void>();
  let running = 0;
  let most = 0;
  const call = async () => {
    running += 1;
    most = Math.max(most, running);
    await gate.promise;
    running -= 1;
  };
  const accepted = Array.from({ length: 5 }, () => guard.run(call));
  expect(await rejection(guard.run(call))).toMatchObject({ code: 'OVERLOADED' });
  gate.resolve();
  await Promise.all(accepted);
  expect(most).toBe(2);
});

test('a call past its deadline is told so, and not waited for', async () => {
  const { guard } = guarded({ dependency: 'cache', timeoutMs: 30 });
  let received: AbortSignal | undefined;
  const late = guard.run((signal) => {
    received = signal;
    return new Promise(() => {});
  });
  expect(await rejection(late)).toMatchObject({
    code: 'TIMED_OUT',
    message: expect.stringContaining('cache'),
  });
  expect(received?.aborted).toBe(true);
});

test('what passes is tried again, as often as said, and told that it is again', async () => {
  const seen: boolean[] = [];
  const options = { tries: 3, budgetMs: 60_000, dependency: 'database' as const };
  const failing = retry((again) => {
    seen.push(again);
    return DOWN();
  }, options);
  expect(await rejection(failing)).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
  expect(seen).toEqual([false, true, true]);
  expect(await rejection(retry(DOWN, { ...options, budgetMs: 0 }))).toMatchObject({
    code: 'DATABASE_UNREACHABLE',
  });
  for (const code of ['USER_NOT_FOUND', 'CIRCUIT_OPEN', 'OVERLOADED', 'DATABASE_ERROR'] as const) {
    let tries = 0;
    const once = retry(() => {
      tries += 1;
      return Promise.reject(new FeedctlError(code, ''));
    }, options);
    expect(await rejection(once)).toMatchObject({ code });
    expect(tries, code).toBe(1);
  }
});
