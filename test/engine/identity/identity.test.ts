import { randomBytes } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { migrate } from '../../../src/engine/database/migrate.ts';
import { openReadiness } from '../../../src/engine/fleet/readiness.ts';
import {
  adoptDatabase,
  Identity,
  readLineages,
  renameCluster,
} from '../../../src/engine/identity/identity.ts';
import { copyOf, onceUnused } from '../../support/citus.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { startPromotable } from '../../support/standby.ts';

/** A pool of another process. */
function another(url: string): Database {
  const db = new Database(url, { maxSessions: 2 });
  onTestFinished(() => db.close());
  return db;
}

test('processes that start at the same time agree on one identity', async () => {
  const { url } = await freshDatabase();
  const all = await Promise.all(Array.from({ length: 8 }, () => Identity.open(another(url))));
  expect(new Set(all.map(({ cluster, lineage }) => `${cluster} ${lineage}`)).size).toBe(1);
  expect(all[0]!.cluster).toMatch(/^[0-9a-f]{12}$/);
  const { db } = await freshDatabase();
  expect((await Identity.open(db)).cluster).not.toBe(all[0]!.cluster);
});

test('a promoted standby opens one new lineage, which every process adopts', async () => {
  const server = await startPromotable();
  const admin = another(server.url);
  await migrate(admin);
  const pools = Array.from({ length: 4 }, () => another(server.url));
  const identities = await Promise.all(pools.map((db) => Identity.open(db)));
  const [first] = identities as [Identity];
  const { cluster, lineage } = first;
  await Promise.all(identities.map((one) => one.mark()));
  await server.demote();
  expect(await rejection(pools[0]!.query('select 1'))).toMatchObject({ code: 'DATABASE_READ_ONLY' });
  await admin.query('select pg_promote()');
  for (const db of pools) await expect.poll(() => db.query('select 1').then(() => true)).toBe(true);
  expect(identities.map((one) => one.cluster)).toEqual(pools.map(() => cluster));
  expect(new Set(identities.map((one) => one.lineage)).size).toBe(1);
  expect(first.lineage).not.toBe(lineage);
  expect(first.keyPrefix).toBe(`${cluster}.${first.lineage}`);
  expect(await readLineages(admin)).toMatchObject([
    { lineage, reason: 'first' },
    { lineage: first.lineage, parent: lineage, reason: 'timeline 2 after 1' },
  ]);
});

test('a database without a mark that was made in it has gone back', async () => {
  const { db, url } = await freshDatabase();
  const identity = await Identity.open(db);
  const { lineage } = identity;
  const mark = await identity.mark();
  expect(await identity.hasMark(mark)).toBe(true);
  expect(await identity.mark()).toBe(mark);
  const other = await Identity.open(another(url));
  expect(await other.mark()).toBe(mark);
  // A backup from before the mark has all rows but these.
  await db.query('delete from lineage_marks');
  expect(await identity.hasMark(mark)).toBe(false);
  await identity.refresh();
  expect(identity.lineage).not.toBe(lineage);
  // The second process finds the new lineage and opens none.
  await other.refresh();
  expect(other.lineage).toBe(identity.lineage);
  expect(await readLineages(db)).toMatchObject([
    { lineage },
    { parent: lineage, reason: expect.stringContaining('went back') },
  ]);
  expect(await identity.hasLineage(lineage)).toBe(true);
  expect(await identity.hasLineage('000000000000')).toBe(false);
});

test('old marks are removed and still count as known', async () => {
  const { db } = await freshDatabase();
  const identity = await Identity.open(db);
  const mark = await identity.mark();
  await db.query(`insert into lineage_marks (nonce) select 'x' from generate_series(1, 10100)`);
  await db.query(`update lineage_marks set made_at = now() - interval '1 day'`);
  await (await Identity.open(db)).mark();
  const { rows } = await db.query<{ count: number }>('select count(*) as count from lineage_marks');
  expect(rows[0]!.count).toBeLessThan(10_010);
  expect(await identity.hasMark(mark)).toBe(true);
});

test('a copied database is refused until it is adopted, or becomes another cluster', async () => {
  const { db, url } = await freshDatabase();
  const { cluster, lineage } = await Identity.open(db);
  const name = `test_${randomBytes(6).toString('hex')}`;
  const withName = (database: string) => url.replace(/\/\w+(?=\?|$)/, `/${database}`);
  const original = /\/(\w+)(?=\?|$)/.exec(url)![1]!;
  await db.close();
  const server = another(withName('postgres'));
  await onceUnused(async () => {
    for (const statement of copyOf(original, name)) await server.query(statement);
  });
  onTestFinished(() => server.query(`drop database ${name} with (force)`).then(() => {}));
  const copy = another(withName(name));
  const error = await rejection(Identity.open(copy));
  expect(error).toMatchObject({ code: 'DATABASE_COPIED' });
  await adoptDatabase(copy);
  const adopted = await Identity.open(another(copy.url));
  expect(adopted.cluster).toBe(cluster);
  expect(adopted.lineage).not.toBe(lineage);
  const id = await renameCluster(copy);
  expect(id).not.toBe(cluster);
  expect((await Identity.open(another(copy.url))).cluster).toBe(id);
  // The process that has worked with it as the old cluster stops doing so.
  expect(await rejection(adopted.refresh())).toMatchObject({ code: 'DATABASE_OTHER_CLUSTER' });
});

test('a process whose database becomes another cluster is not ready, and uses none of its sessions', async () => {
  const { db, url } = await freshDatabase();
  const identity = await Identity.open(db);
  const requests = another(url);
  identity.guard(requests);
  const readiness = openReadiness({ db, identity });
  onTestFinished(() => readiness.close());
  await readiness.check();
  await requests.query('select 1');
  await renameCluster(another(url));
  const refused = { code: 'DATABASE_OTHER_CLUSTER' };
  expect(await rejection(readiness.check())).toMatchObject(refused);
  for (const one of [requests, db]) expect(await rejection(one.query('select 1'))).toMatchObject(refused);
});
