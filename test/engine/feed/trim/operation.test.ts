import { expect, test } from 'vitest';
import { notifiedChanges } from '../../../../src/engine/cache/invalidation.ts';
import { trimAll } from '../../../../src/engine/feed/trim/operation.ts';
import { listOperations } from '../../../../src/engine/operations/table.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { plantUsers } from '../feeds.ts';

const USERS = 450;

test('a trim of all feeds that was cut off goes on behind the feeds that are done', async () => {
  const { db } = await freshDatabase();
  await plantUsers(db, USERS);
  await db.query('insert into feed_items select id, post, 1 from users, generate_series(1, 3) post');
  const context = { db, changes: notifiedChanges };
  const stop = new AbortController();
  const cut = trimAll(context, { keep: 1, signal: stop.signal, onProgress: () => stop.abort() });
  await expect(cut).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const last = async () => (await listOperations(db, { kind: 'trim', limit: 1 }))[0]!;
  const { id, state, progress } = await last();
  expect(state).toBe('interrupted');
  expect(progress!.done).toBeLessThan(USERS);
  const rows = async () => (await db.query('select from feed_items')).rowCount;
  expect(await rows()).toBe(USERS * 3 - progress!.done * 2);

  const resumed: number[] = [];
  const onResume = (operation: { id: number }) => resumed.push(operation.id);
  expect(await trimAll(context, { keep: 1, onResume })).toMatchObject({ users: USERS, items: USERS * 2 });
  expect(resumed).toEqual([id]);
  expect(await rows()).toBe(USERS);
  expect(await last()).toMatchObject({ id, state: 'done', runs: 2 });
  expect(await trimAll(context, { keep: 1 })).toMatchObject({ users: 0, items: 0 });
});
