import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Delivery } from '../../../src/engine/bus/bus.ts';
import { failDelivery, halves } from '../../../src/engine/bus/failDelivery.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { encodeEvents, encodeLive } from '../../../src/engine/model/messages.ts';
import { RowsMessage } from '../../../src/engine/model/rowsMessage.ts';
import { type Log, silentLog } from '../../../src/engine/telemetry/log.ts';

/** Returns how a message is settled after `attempts` failures and this one. */
function settled(attempts: number, error: unknown, body: Buffer = Buffer.alloc(0), log: Log = silentLog) {
  const calls: unknown[][] = [];
  const delivery: Delivery = {
    queue: 'events',
    body,
    attempts,
    ack: () => void calls.push(['ack']),
    retry: (delayMs, options) => void calls.push(['retry', delayMs, options?.counts]),
    deadLetter: (reason) => void calls.push(['dead', reason]),
  };
  failDelivery(delivery, error, { log });
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

test('the log names the posts and events that failed, the first of many', () => {
  const header = { importId: 0, committedAt: 0 };
  const events = Array.from(
    { length: 500 },
    (_, i) => ({ id: 1_000 + i, type: 'post.created', aggregateId: 7, subjectId: 2_000 + i }) as const,
  );
  const rows = new RowsMessage();
  rows.add(0, 8, { authorId: 7, postIds: [2_000] });
  const said: object[] = [];
  const keep = (fields: object) => void said.push(fields);
  const log = { ...silentLog, warn: keep, error: keep };
  const final = new FeedctlError('BUS_MESSAGE_INVALID', 'it is damaged');
  settled(0, new Error('odd'), encodeEvents(header, events), log);
  settled(0, new Error('odd'), rows.seal(header), log);
  settled(0, final, encodeLive(header, [{ userId: 8, authorId: 7, postId: 2_000 }]), log);
  settled(0, final, Buffer.from('rubbish'), log);
  const first = Array.from({ length: 20 }, (_, i) => i);
  expect(said).toEqual([
    expect.objectContaining({ eventIds: first.map((i) => 1_000 + i), postIds: first.map((i) => 2_000 + i) }),
    expect.objectContaining({ postIds: [2_000] }),
    expect.objectContaining({ postIds: [2_000], reason: 'it is damaged' }),
    { queue: 'events', reason: 'it is damaged' },
  ]);
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
