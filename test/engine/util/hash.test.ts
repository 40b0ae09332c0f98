import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_ID } from '../../../src/engine/model/ids.ts';
import { hashInt8, partitionOf } from '../../../src/engine/util/hash.ts';
import { freshDatabase } from '../../support/cluster.ts';

const halves = (id: number): [high: number, low: number] => [Math.floor(id / 2 ** 32), id % 2 ** 32];

test('hashInt8 is PostgreSQL’s hashint8', async () => {
  const { db } = await freshDatabase();
  const edges = [0, 1, 2, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 52, MAX_ID];
  const ids = [...edges, ...fc.sample(fc.maxSafeNat(), 2_000)];
  const { rows } = await db.query<{ hash: number }>(
    'select hashint8(id)::bigint as hash from unnest($1::bigint[]) with ordinality ids(id, nth) order by nth',
    [ids],
  );
  expect(ids.map((id) => hashInt8(...halves(id)) | 0)).toEqual(rows.map((row) => row.hash));
});

test('a partition is in range, and finer partitions divide coarser ones', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: 1, max: 64 }), (id, partitions) => {
      const partition = partitionOf(...halves(id), partitions);
      expect(Number.isInteger(partition) && partition >= 0 && partition < partitions).toBe(true);
      expect(Math.floor(partitionOf(...halves(id), partitions * 4) / 4)).toBe(partition);
    }),
  );
});

test('partitions get about equal shares', () => {
  const counts = [0, 0, 0, 0];
  for (let id = 1; id <= 40_000; id += 1) counts[partitionOf(0, id, 4)]! += 1;
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
});
