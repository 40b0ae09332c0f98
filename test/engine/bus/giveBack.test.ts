import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Delivery } from '../../../src/engine/bus/bus.ts';
import { giveBack, halves } from '../../../src/engine/bus/giveBack.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';

/** What becomes of a message after `attempts` failures and this one. */
function settled(attempts: number, error: unknown) {
  const calls: unknown[][] = [];
  const delivery: Delivery = {
    queue: 'events',
    body: Buffer.alloc(0),
    attempts,
    ack: () => void calls.push(['ack']),
    retry: (delayMs, options) => void calls.push(['retry', delayMs, options?.counts]),
    deadLetter: (reason) => void calls.push(['dead', reason]),
  };
  giveBack(delivery, error, { log: silentLog });
  expect(calls).toHaveLength(1);
  return calls[0]!;
}

test('what cannot succeed is put aside at once, with its reason', () => {
  expect(settled(0, new FeedctlError('BUS_MESSAGE_INVALID', 'it is damaged'))).toEqual([
    'dead',
    'it is damaged',
  ]);
});

test('what may succeed is tried ten times, each time later, at most ten seconds', () => {
  for (let attempts = 0; attempts < 9; attempts += 1) {
    const [what, delayMs, counts] = settled(attempts, new Error('odd'));
    expect([what, counts]).toEqual(['retry', true]);
    expect(delayMs).toBeLessThanOrEqual(Math.min(10_000, 100 * 2 ** attempts));
  }
  expect(settled(9, new Error('odd'))).toEqual(['dead', 'odd']);
});

test('a server that is away uses up no try, however often', () => {
  const [what, delayMs, counts] = settled(9, new FeedctlError('DATABASE_UNREACHABLE', 'gone'));
  expect([what, counts]).toEqual(['retry', false]);
  expect(delayMs).toBeLessThanOrEqual(10_000);
});

test('halving isolates every bad message and nothing else, in few tries', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 64 }), (good) => {
      const [written, aside]: [number[], number[]] = [[], []];
      let tries = 0;
      const work = (batch: readonly number[]): void => {
        tries += 1;
        if (batch.every((i) => good[i])) written.push(...batch);
        else if (batch.length === 1) aside.push(batch[0]!);
        else for (const half of halves(batch)) work(half);
      };
      work(good.map((_, i) => i));
      expect(written).toEqual(good.flatMap((one, i) => (one ? [i] : [])));
      expect(aside).toEqual(good.flatMap((one, i) => (one ? [] : [i])));
      expect(tries).toBeLessThanOrEqual(1 + aside.length * 2 * Math.ceil(Math.log2(good.length + 1)));
    }),
  );
});
