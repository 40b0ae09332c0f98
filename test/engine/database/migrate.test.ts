import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { checkSchema, migrate, schemaState } from '../../../src/engine/database/migrate.ts';
import { emptyDatabase, freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';

test('an empty database is brought up to date once', async () => {
  const { db } = await emptyDatabase();
  expect(await rejection(checkSchema(db))).toMatchObject({ code: 'SCHEMA_MISSING' });
  const { applied, pending } = await schemaState(db);
  expect(applied).toEqual([]);
  expect(await migrate(db)).toEqual(pending);
  const migrations = pending.filter((name) => name !== 'partition feed_items');
  expect(await schemaState(db)).toEqual({ applied: migrations, pending: [] });
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

test('a newer schema is used while it only expands this one, and otherwise left alone', async () => {
  const { db } = await freshDatabase();
  await db.query(`insert into schema_migrations (name, run_on) values ('9999_later', now())`);
  // A migration that only expands the schema leaves it usable for roles of this version.
  await checkSchema(db);
  expect(await migrate(db)).toEqual([]);
  await db.query(`insert into settings (name, value) values ('schema.breaking', '["9998_other"]')`);
  await checkSchema(db);
  await db.query(`update settings set value = '["9998_other", "9999_later"]' where name = 'schema.breaking'`);
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

/** A database that lacks the newest migrations, and a transaction that has read the table one changes. */
async function blockedMigration() {
  const { db, url } = await freshDatabase();
  await db.query('alter table workers drop column checks');
  await db.query('alter table gateways drop column checks');
  await db.query(`delete from schema_migrations where name ~ '^001[456]'`);
  const other = new Database(url, { applicationName: 'nightly report' });
  onTestFinished(() => other.close());
  const over = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const reading = other.transaction(async (session) => {
    await session.query('select count(*) from workers');
    begun.resolve();
    await over.promise;
  });
  await begun.promise;
  return {
    db,
    url,
    async end() {
      over.resolve();
      await reading;
    },
  };
}

test('a migration waits for a long transaction, names it, and holds up no other statement', async () => {
  const { db, url, end } = await blockedMigration();
  const blockers: string[] = [];
  const migrating = migrate(db, undefined, { onBlocked: (by) => blockers.push(by) });
  await expect.poll(() => blockers.length, { timeout: 15_000 }).toBe(1);
  expect(blockers[0]).toMatch(/session \d+ of feedctl \(nightly report, idle in transaction.*select count/);
  // Each would wait as long as the transaction lives, behind a migration that waits for it.
  const users = new Database(url, { sessionSettings: { statement_timeout: '10s' } });
  onTestFinished(() => users.close());
  for (let round = 0; round < 20; round += 1) {
    await users.query('select count(*) from workers');
    await users.query('delete from workers where false');
  }
  expect((await schemaState(db)).pending).toEqual([
    '0014_role_checks',
    '0015_deleted_posts',
    '0016_run_rows',
  ]);
  await end();
  expect(await migrating).toEqual(['0014_role_checks', '0015_deleted_posts', '0016_run_rows']);
  await checkSchema(db);
});

test('a migration gives up after its time and changes nothing', async () => {
  const { db, end } = await blockedMigration();
  const error = await rejection(migrate(db, undefined, { timeoutMs: 0 }));
  expect(error).toMatchObject({ code: 'SCHEMA_LOCKED', message: expect.stringContaining('nightly report') });
  expect((await schemaState(db)).pending).toEqual([
    '0014_role_checks',
    '0015_deleted_posts',
    '0016_run_rows',
  ]);
  await end();
  const { rows } = await db.query<{ timeout: string }>(`select current_setting('lock_timeout') as timeout`);
  expect(rows[0]!.timeout).toBe('0');
});

test('an index of a big table is built while rows are written, and replaced if its build was cut off', async () => {
  const { db } = await freshDatabase();
  const valid = async () => {
    const { rows } = await db.query<{ valid: boolean }>(
      `select indisvalid as valid from pg_index where indexrelid = to_regclass('posts_deleted')`,
    );
    return rows[0]?.valid;
  };
  const forget = () => db.query(`delete from schema_migrations where name >= '0015'`);
  await db.query('drop index posts_deleted');
  await forget();
  let writing = true;
  const writer = (async () => {
    for (let id = 1; writing; id += 1)
      await db.query('insert into posts (author_id, id, body, created_at) values (1, $1, $2, now())', [
        id,
        '',
      ]);
  })();
  expect(await Promise.all([migrate(db), migrate(db)])).toContainEqual([
    '0015_deleted_posts',
    '0016_run_rows',
  ]);
  writing = false;
  await writer;
  expect(await valid()).toBe(true);
  if ((await db.sharding()).distributed) return;
  await db.query(`update pg_index set indisvalid = false where indexrelid = 'posts_deleted'::regclass`);
  await forget();
  await migrate(db);
  expect(await valid()).toBe(true);
});
