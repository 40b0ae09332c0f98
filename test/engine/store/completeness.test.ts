import { describe, expect, test } from 'vitest';
import { firstUnfinished, hasEventsFrom } from '../../../src/engine/store/completeness.ts';
import { citusDatabase, plainDatabase } from '../../support/cluster.ts';
import { findServer } from '../../support/server.ts';

const server = await findServer('citus');

describe.each([
  { name: 'PostgreSQL', missing: false, open: plainDatabase },
  { name: 'Citus', missing: !server, open: () => citusDatabase(server!) },
])('on $name', ({ missing, open }) => {
  test.skipIf(missing)('events of all shards count', async () => {
    const { db } = await open();
    expect(await hasEventsFrom(db, 0)).toBe(false);
    expect(await firstUnfinished(db, 50)).toBe(50);
    await db.query(
      `insert into events (id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at)
       select n, n, n, 'post.created', now(), '{}', case when n < 30 then now() end
       from generate_series(10, 40) n`,
    );
    expect([await hasEventsFrom(db, 40), await hasEventsFrom(db, 41)]).toEqual([true, false]);
    expect([await firstUnfinished(db, 50), await firstUnfinished(db, 20)]).toEqual([30, 20]);
  });
});
