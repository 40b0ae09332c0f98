import { expect, test } from 'vitest';
import { adoptDatabase, Identity } from '../../../src/engine/identity/identity.ts';
import { checkLineage } from '../../../src/engine/monitoring/lineageCheck.ts';
import { freshDatabase } from '../../support/cluster.ts';

test('a lineage is a warning with its reason for a day, except the first one', async () => {
  const { db } = await freshDatabase();
  expect(await checkLineage(db)).toEqual([]);
  const identity = await Identity.open(db);
  const first = { name: 'lineage', status: 'ok', detail: expect.stringContaining(identity.lineage) };
  expect(await checkLineage(db)).toMatchObject([first]);
  await adoptDatabase(db);
  await identity.refresh();
  const detail = expect.stringMatching(
    new RegExp(`^${identity.lineage}, since .*Z: an operator has adopted`),
  );
  const fix = expect.stringContaining('feed verify');
  expect(await checkLineage(db)).toMatchObject([{ status: 'warning', detail, fix }]);
  await db.query(`update lineages set opened_at = opened_at - interval '25 hours'`);
  expect(await checkLineage(db)).toMatchObject([{ status: 'ok', detail }]);
});
