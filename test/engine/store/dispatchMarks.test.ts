import { expect, test } from 'vitest';
import type { Database } from '../../../src/engine/database/database.ts';
import { Sharding } from '../../../src/engine/database/sharding.ts';
import type { EventRef } from '../../../src/engine/model/event.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import { DispatchMarks } from '../../../src/engine/store/dispatchMarks.ts';
import { citusDatabase, plainDatabase } from '../../support/cluster.ts';
import { findServer } from '../../support/server.ts';

const FIRST = firstIdAt(Date.now());

const server = await findServer('citus');

async function withEvents(
  count: number,
  opened = plainDatabase(),
): Promise<{ db: Database; events: EventRef[] }> {
  const { db } = await opened;
  const events = Array.from(
    { length: count },
    (_, i): EventRef => ({ id: FIRST + i, type: 'post.created', aggregateId: 1 + i, subjectId: FIRST + i }),
  );
  await db.query(
    `insert into events (id, aggregate_id, subject_id, type, occurred_at, data)
     select id, id - $2, id, 'post.created', now(), '{}' from unnest($1::bigint[]) id`,
    [events.map(({ id }) => id), FIRST - 1],
  );
  return { db, events };
}

/** Marks the first event, whose row is locked, and calls `meanwhile` while that statement waits. */
async function markBehindLock(
  db: Database,
  marks: DispatchMarks,
  first: EventRef,
  meanwhile: () => Promise<unknown>,
): Promise<void> {
  let marking: Promise<void> | undefined;
  await db.transaction(async (session) => {
    await session.query('select 1 from events where id = $1 for update', [first.id]);
    marking = marks.mark([first]);
    await expect
      .poll(async () => {
        const { rows } = await db.query<{ waits: boolean }>(
          `select exists (select from pg_stat_activity
                          where datname = current_database() and wait_event_type = 'Lock') as waits`,
        );
        return rows[0]!.waits;
      })
      .toBe(true);
    await meanwhile();
  });
  await marking;
}

test('events that come during a statement are marked by one commit', async () => {
  const { db, events } = await withEvents(50);
  const [first, ...others] = events as [EventRef, ...EventRef[]];
  const marks = new DispatchMarks(db);
  let waiting: Promise<unknown> | undefined;
  await markBehindLock(db, marks, first, async () => {
    waiting = Promise.all(others.map((event) => marks.mark([event])));
  });
  await waiting;
  const { rows } = await db.query(
    `select count(dispatched_at)::integer as marked, count(distinct xmin::text)::integer as commits from events`,
  );
  expect(rows).toEqual([{ marked: 50, commits: 2 }]);
});

test('a shard whose statement waits holds up no other shard', async () => {
  const { db, events } = await withEvents(20);
  const node = { host: 'localhost', port: 5432, takesQueries: true };
  const sharding = new Sharding('13.2', [
    { low: -(2 ** 31), node },
    { low: 0, node },
  ]);
  Object.assign(db, { sharding: async () => sharding });
  const [[first], others] = sharding.group(events, ({ aggregateId }) => aggregateId) as [
    EventRef[],
    EventRef[],
  ];
  const marks = new DispatchMarks(db);
  await markBehindLock(db, marks, first!, () => marks.mark(others));
});

test.skipIf(!server)('concurrent events of all shards of Citus are marked', async () => {
  const { db, events } = await withEvents(80, citusDatabase(server!));
  const marks = new DispatchMarks(db);
  await Promise.all(events.map((event) => marks.mark([event])));
  await marks.mark(events.slice(0, 20));
  const { rows } = await db.query<{ marked: number }>(
    'select count(dispatched_at)::integer as marked from events',
  );
  expect(rows[0]!.marked).toBe(80);
  const sharding = await db.sharding();
  const shards = new Set(events.map(({ aggregateId }) => sharding.shardOfId(aggregateId)));
  expect(shards.size).toBe(sharding.shards.length);
});
