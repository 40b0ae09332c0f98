import { expect, test } from 'vitest';
import type { Database } from '../../../src/engine/database/database.ts';
import type { EventRef } from '../../../src/engine/model/event.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import {
  anyUndispatched,
  dropOldEventPartitions,
  ensureEventPartitions,
  markDispatched,
  undispatchedEvents,
} from '../../../src/engine/store/events.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';

const DAY_MS = 86_400_000;
/** A Wednesday; its week begins on 2 January. */
const WEDNESDAY = Date.UTC(2040, 0, 4, 12);

const event = (id: number, aggregateId = 1): EventRef => ({
  id,
  type: 'post.created',
  aggregateId,
  subjectId: id - 1,
});

async function insert(db: Database, events: EventRef[], age = '1 hour'): Promise<void> {
  await db.query(
    `insert into events (id, aggregate_id, subject_id, type, occurred_at, data)
     select id, aggregate, subject, type, now() - $5::interval, '{}'
     from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) e(id, aggregate, subject, type)`,
    [
      events.map((e) => e.id),
      events.map((e) => e.aggregateId),
      events.map((e) => e.subjectId),
      events.map((e) => e.type),
      age,
    ],
  );
}

async function partitions(db: Database): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select inhrelid::regclass::text as name from pg_inherits
     where inhparent = 'events'::regclass order by 1`,
  );
  return rows.map((row) => row.name);
}

async function partitionOf(db: Database, id: number): Promise<string> {
  const { rows } = await db.query<{ name: string }>(
    'select tableoid::regclass::text as name from events where id = $1',
    [id],
  );
  expect(rows).toHaveLength(1);
  // On Citus, a shard of the partition holds the row.
  return rows[0]!.name.replace(/_\d{6}$/, '');
}

const WEEKS = ['events_20400102', 'events_20400109', 'events_20400116', 'events_20400123', 'events_20400130'];

test('this week and four more have partitions, whoever makes them and how often', async () => {
  const { db } = await freshDatabase();
  await Promise.all(Array.from({ length: 3 }, () => ensureEventPartitions(db, WEDNESDAY)));
  await ensureEventPartitions(db, WEDNESDAY);
  expect((await partitions(db)).filter((name) => name.startsWith('events_2040'))).toEqual(WEEKS);
});

test('an event is in the partition of its week, to the millisecond', async () => {
  const { db } = await freshDatabase();
  await ensureEventPartitions(db, WEDNESDAY);
  const monday = firstIdAt(Date.UTC(2040, 0, 9));
  await insert(db, [event(monday - 1), event(monday), event(firstIdAt(Date.UTC(2041, 0, 1)))]);
  expect(await partitionOf(db, monday - 1)).toBe('events_20400102');
  expect(await partitionOf(db, monday)).toBe('events_20400109');
  expect(await partitionOf(db, firstIdAt(Date.UTC(2041, 0, 1)))).toBe('events_default');
});

test('events that came before their partition move into it', async () => {
  const { db } = await freshDatabase();
  const early = firstIdAt(WEDNESDAY);
  const other = firstIdAt(Date.UTC(2041, 0, 1));
  await insert(db, [event(early), event(other)]);
  await ensureEventPartitions(db, WEDNESDAY);
  expect(await partitionOf(db, early)).toBe('events_20400102');
  expect(await partitionOf(db, other)).toBe('events_default');
  expect((await undispatchedEvents(db, 0, 10)).map((e) => e.id)).toEqual([early, other]);
});

test('partitions are dropped when all of their week is old enough', async () => {
  const { db } = await freshDatabase();
  await ensureEventPartitions(db, WEDNESDAY);
  const endOfFirst = Date.UTC(2040, 0, 9);
  const drop = (nowMs: number) => dropOldEventPartitions(db, 30, nowMs);
  const current = (await partitions(db)).filter((name) => !name.startsWith('events_2040'));
  for (const name of await drop(WEDNESDAY)) expect(current).toContain(name);
  expect(await drop(endOfFirst + 30 * DAY_MS)).toEqual([]);
  expect(await drop(endOfFirst + 30 * DAY_MS + 1)).toEqual(['events_20400102']);
  expect(await partitions(db)).toEqual([...WEEKS.slice(1), 'events_default']);
});

test('two at once drop a partition without getting in each other’s way', async () => {
  const { db } = await freshDatabase();
  await ensureEventPartitions(db, WEDNESDAY);
  await Promise.all(
    Array.from({ length: 3 }, () => dropOldEventPartitions(db, 30, WEDNESDAY + 365 * DAY_MS)),
  );
  expect(await partitions(db)).toEqual(['events_default']);
});

test('what is not dispatched is found, oldest first, until it is marked', async () => {
  const { db } = await freshDatabase();
  const now = firstIdAt(Date.now());
  const events = [event(now + 3, 7), event(now + 1, 8), event(now + 2, 7)];
  await insert(db, events);
  await insert(db, [event(now + 4, 9)], '0 s');
  const found = await undispatchedEvents(db, 60_000, 10);
  expect(found.map((e) => e.id)).toEqual([now + 1, now + 2, now + 3]);
  expect(found[0]).toMatchObject(events[1]!);
  expect(await undispatchedEvents(db, 60_000, 2)).toHaveLength(2);
  await markDispatched(db, [...events, event(now + 99)]);
  await markDispatched(db, []);
  expect(await undispatchedEvents(db, 60_000, 10)).toEqual([]);
  expect(await anyUndispatched(db, now + 3)).toBe(false);
  expect(await anyUndispatched(db, now + 4)).toBe(true);
});

test('a long transaction that reads events holds up partitions, and partitions hold up no post', async () => {
  const { db } = await freshDatabase();
  await ensureEventPartitions(db, WEDNESDAY);
  const over = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const reading = db.transaction(async (session) => {
    await session.query('select count(*) from events');
    begun.resolve();
    await over.promise;
  });
  await begun.promise;
  const before = await partitions(db);
  const later = WEDNESDAY + 60 * DAY_MS;
  const once = { timeoutMs: 0 };
  const dropping = rejection(dropOldEventPartitions(db, 30, later, once));
  await insert(db, [event(1)]);
  expect(await dropping).toMatchObject({
    code: 'SCHEMA_LOCKED',
    message: expect.stringMatching(/session \d+ of/),
  });
  expect(await rejection(ensureEventPartitions(db, later, once))).toMatchObject({ code: 'SCHEMA_LOCKED' });
  expect(await partitions(db)).toEqual(before);
  over.resolve();
  await reading;
  await ensureEventPartitions(db, later, once);
  expect(await dropOldEventPartitions(db, 30, later, once)).toContain('events_20400102');
});
