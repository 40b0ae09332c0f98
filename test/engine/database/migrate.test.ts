import { expect, test } from 'vitest';
import { checkSchema, migrate, schemaState } from '../../../src/engine/database/migrate.ts';
import { emptyDatabase, freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';

test('an empty database is brought up to date once', async () => {
  const { db } = await emptyDatabase();
  expect(await rejection(checkSchema(db))).toMatchObject({ code: 'SCHEMA_MISSING' });
  const { applied, pending } = await schemaState(db);
  expect(applied).toEqual([]);
  expect(await migrate(db)).toEqual(pending);
  expect(await schemaState(db)).toEqual({ applied: pending, pending: [] });
  expect(await migrate(db)).toEqual([]);
  await checkSchema(db);
});

test('several processes may migrate at once: one does it', async () => {
  const { db } = await emptyDatabase();
  const { pending } = await schemaState(db);
  const done = await Promise.all(Array.from({ length: 4 }, () => migrate(db)));
  expect(done.flat()).toEqual(pending);
  await checkSchema(db);
});

test('a database that a newer program has migrated is left alone', async () => {
  const { db } = await freshDatabase();
  await db.query(`insert into schema_migrations (name, run_on) values ('9999_later', now())`);
  for (const work of [schemaState, checkSchema, migrate]) {
    const error = await rejection(work(db));
    expect(error).toMatchObject({ code: 'SCHEMA_NEWER' });
    expect(error.message).toContain('9999_later');
  }
});

test('a migration that fails changes nothing', async () => {
  const { db } = await emptyDatabase();
  await db.query('create table operations (in_the_way text)');
  expect(await rejection(migrate(db))).toMatchObject({ code: 'DATABASE_ERROR' });
  expect((await schemaState(db)).applied).toEqual([]);
  const found = await db.query<{ found: string | null }>(`select to_regclass('users')::text as found`);
  expect(found.rows[0]!.found).toBeNull();
  await db.query('drop table operations');
  await migrate(db);
  await checkSchema(db);
});
