import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import {
  ChangedFeeds,
  INVALIDATE_CHANNEL,
  slotOf,
  slotsOfPayload,
} from '../../../src/engine/cache/invalidation.ts';
import type { Queryable } from '../../../src/engine/database/database.ts';
import { freshDatabase } from '../../support/cluster.ts';

/** Returns the payload that a transaction sends for these users; undefined for none. */
async function payloadOf(users: Iterable<number>): Promise<string | undefined> {
  const changed = new ChangedFeeds();
  for (const user of users) changed.add(user);
  let payload: string | undefined;
  const session = {
    query: async (_: string, values: unknown[]) => {
      payload = values[1] as string;
      return { rows: [] };
    },
  };
  await changed.notify(session as unknown as Queryable);
  return payload;
}

const slotsOf = (users: number[]) => [...new Set(users.map(slotOf))].sort((a, b) => a - b);

test('no user, no notification', async () => {
  expect(await payloadOf([])).toBeUndefined();
});

test('a payload names the slots of its users, and no other', async () => {
  const users = fc.uniqueArray(fc.maxSafeNat(), { minLength: 1, maxLength: 3_000, size: 'max' });
  await fc.assert(
    fc.asyncProperty(users, async (ids) => {
      const slots = slotsOfPayload((await payloadOf(ids))!);
      expect(slots.sort((a, b) => a - b)).toEqual(slotsOf(ids));
    }),
    { numRuns: 30 },
  );
});

test.each([
  [1, 'l'],
  [1_500, 'l'],
  [1_501, 'b'],
  [40_000, 'b'],
])('%i users fit in a notification of kind %s', async (count, kind) => {
  const users = Array.from({ length: count }, (_, i) => i);
  const payload = (await payloadOf(users))!;
  expect(payload[0]).toBe(kind);
  expect(slotsOfPayload(payload)).toEqual(slotsOf(users));
  const { db } = await freshDatabase();
  const heard: string[] = [];
  const listener = await db.listen([INVALIDATE_CHANNEL], { onNotify: (_, text) => heard.push(text) });
  onTestFinished(() => listener.close());
  const changed = new ChangedFeeds();
  for (const user of users) changed.add(user);
  await changed.notify(db);
  await listener.barrier();
  expect(heard).toEqual([payload]);
});
