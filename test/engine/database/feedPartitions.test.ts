import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import {
  ensureFeedPartitions,
  feedPartitionSizes,
  feedPartitions,
  partitionFeedTable,
  removeWideFeedPartitions,
} from '../../../src/engine/database/feedPartitions.ts';
import { checkSchema, migrate, schemaState } from '../../../src/engine/database/migrate.ts';
import { openWorkPool } from '../../../src/engine/database/pools.ts';
import { firstIdAt, MAX_ID, timeOfId } from '../../../src/engine/model/ids.ts';
import { postgresPages } from '../../../src/engine/store/pages/postgres.ts';
import { feedctl, start, waitUntil } from '../../support/cli.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';

const HOUR_MS = 3_600_000;
const COLUMNS = 'user_id bigint not null, post_id bigint not null, author_id bigint not null';

/** A cluster of an earlier release: one table holds all feed rows. */
async function wholeDatabase(rows = 0) {
  const { db, url } = await freshDatabase();
  const { distributed } = await db.sharding();
  await db.query('drop table feed_items');
  await db.query(`create table feed_items (${COLUMNS}, primary key (user_id, post_id))`);
  if (distributed)
    await db.query(`select create_distributed_table('feed_items', 'user_id', colocate_with => 'users')`);
  await db.query(
    'insert into feed_items select 1 + n % 50, $1::bigint + n, 7 from generate_series(1, $2::integer) n',
    [firstIdAt(Date.UTC(2025, 0, 1)), rows],
  );
  await db.query('analyze feed_items');
  return { db, url, distributed };
}

const count = async (db: Database, where = 'true'): Promise<number> =>
  (await db.query<{ n: number }>(`select count(*)::integer as n from feed_items where ${where}`)).rows[0]!.n;

const names = async (db: Database): Promise<string[]> => (await feedPartitions(db)).map(({ name }) => name);

/** Adds rows of new posts, a hundred at a time, until it is stopped. Returns their number. */
function writing(db: Database) {
  let stopped = false;
  let written = 0;
  const running = (async () => {
    for (let at = firstIdAt(Date.now()); !stopped; at += 100) {
      await db.query(
        'insert into feed_items select 1 + n % 50, $1::bigint + n, 7 from generate_series(0, 99) n',
        [at],
      );
      written += 100;
    }
  })();
  return async () => {
    stopped = true;
    await running;
    return written;
  };
}

test('a table with rows becomes the first partition while rows are written, and no row is lost', async () => {
  const { db } = await wholeDatabase(20_000);
  expect((await schemaState(db)).pending).toEqual(['partition feed_items']);
  expect(await rejection(checkSchema(db))).toMatchObject({ code: 'SCHEMA_MISSING' });
  const stop = writing(db);
  expect(await migrate(db)).toEqual(['partition feed_items']);
  await ensureFeedPartitions(db, Date.now());
  const written = await stop();
  expect(written).toBeGreaterThan(0);
  expect(await count(db)).toBe(20_000 + written);
  expect(await count(db, `post_id < ${firstIdAt(Date.UTC(2025, 1, 1))}`)).toBe(20_000);
  await checkSchema(db);
  expect(await migrate(db)).toEqual([]);
  const partitions = await feedPartitions(db);
  expect(partitions.at(0)).toMatchObject({ name: 'feed_items_before', from: 0 });
  expect(partitions.at(-1)).toMatchObject({ name: 'feed_items_after', to: Number.POSITIVE_INFINITY });
  for (const [n, { from }] of partitions.entries()) if (n > 0) expect(from).toBe(partitions[n - 1]!.to);
});

test('a big table is checked before it is locked, and the check does not outlive the change', async () => {
  const { db } = await wholeDatabase(5_000);
  await partitionFeedTable(db, {}, { smallPages: 0 });
  const [before] = await feedPartitions(db);
  // New rows still go to the old partition for a week, which is the time that a check may take.
  expect(before!.to).toBeGreaterThan(firstIdAt(Date.now() + 6 * 24 * HOUR_MS));
  const { rows } = await db.query<{ conname: string }>(
    `select conname from pg_constraint where contype = 'c' and conrelid::regclass::text like 'feed_items%'`,
  );
  expect(rows).toEqual([]);
  expect(await count(db)).toBe(5_000);
});

test('a post that was imported with a time ahead is no obstacle', async () => {
  const { db } = await wholeDatabase(100);
  const ahead = firstIdAt(Date.UTC(2040, 0, 1));
  await db.query('insert into feed_items values (1, $1, 7)', [ahead]);
  await partitionFeedTable(db, {}, { smallPages: 0 });
  const [before, after] = await feedPartitions(db);
  expect([before!.to, after!.from]).toEqual([ahead + 1, ahead + 1]);
  expect(await count(db)).toBe(101);
  // Rows of a later time have a partition, and one of now too.
  await ensureFeedPartitions(db, Date.now());
  await db.query('insert into feed_items values (1, $1, 7), (1, $2, 7)', [
    firstIdAt(Date.now()),
    firstIdAt(Date.UTC(2050, 0, 1)),
  ]);
  expect(await count(db)).toBe(103);
});

test('a check that an earlier attempt left long ago is replaced, a fresh one is used', async () => {
  for (const [ms, kept] of [
    [60_000, false],
    [2 * HOUR_MS, true],
  ] as const) {
    const { db } = await wholeDatabase(100);
    const cut = firstIdAt(Date.now() + ms);
    await db.query(`alter table feed_items add constraint feed_items_cut check (post_id < ${cut}) not valid`);
    await partitionFeedTable(db, {}, { smallPages: 0 });
    expect((await feedPartitions(db))[0]!.to === cut, String(ms)).toBe(kept);
    expect(await count(db)).toBe(100);
  }
});

test('a migration that is killed while it waits for a lock is continued by the next one', async () => {
  const { db, url } = await wholeDatabase(5_000);
  const reader = new Database(url, { applicationName: 'nightly report' });
  onTestFinished(() => reader.close());
  await reader.withSession(async (session) => {
    await session.query('begin');
    await session.query('select count(*) from feed_items');
    const migrating = start(['migrate', '--database-url', url]);
    await waitUntil(() => migrating.stderr().includes('nightly report'));
    process.kill(migrating.pid, 'SIGKILL');
    await migrating.ended;
    expect((await schemaState(db)).pending).toEqual(['partition feed_items']);
    expect(await count(db)).toBe(5_000);
    await session.query('rollback');
  });
  const done = await feedctl(['migrate', '--database-url', url, '--json']);
  expect(JSON.parse(done.stdout)).toMatchObject({ applied: ['partition feed_items'], pending: [] });
  expect(await count(db)).toBe(5_000);
  expect((await names(db)).length).toBeGreaterThan(3);
});

test('what others were allowed to do with the table, they are allowed after', async () => {
  const { db, distributed } = await wholeDatabase();
  if (distributed) return;
  const role = `reader_${Math.random().toString(36).slice(2)}`;
  await db.query(`create role ${role}`);
  onTestFinished(async () => {
    await db.query(`drop owned by ${role}`).catch(() => {});
    await db.query(`drop role ${role}`).catch(() => {});
  });
  await db.query(`grant select on feed_items to ${role}`);
  await partitionFeedTable(db);
  const { rows } = await db.query<{ reads: boolean; writes: boolean }>(
    `select has_table_privilege($1, 'feed_items', 'select') as reads,
            has_table_privilege($1, 'feed_items', 'insert') as writes`,
    [role],
  );
  expect(rows).toEqual([{ reads: true, writes: false }]);
});

test('two partitions are ahead at any time, whoever makes them, and rows that came before them move in', async () => {
  const { db } = await wholeDatabase();
  await partitionFeedTable(db);
  const start = (await feedPartitions(db)).at(-1)!.from;
  await db.query('insert into feed_items select n, $1::bigint + n, 7 from generate_series(1, 500) n', [
    start,
  ]);
  const far = firstIdAt(Date.UTC(2060, 0, 1));
  await db.query('insert into feed_items values (1, $1, 7)', [far]);
  const now = timeOfId(start) + 1_000;
  await Promise.all(Array.from({ length: 3 }, () => ensureFeedPartitions(db, now)));
  await ensureFeedPartitions(db, now);
  const made = await names(db);
  expect(made).toHaveLength(5);
  expect(await count(db)).toBe(501);
  const { rows } = await db.query<{ at: string; n: number }>(
    `select regexp_replace(tableoid::regclass::text, '_\\d{6}$', '') as at, count(*)::integer as n
     from feed_items group by 1 order by 2`,
  );
  expect(rows).toEqual([
    { at: 'feed_items_after', n: 1 },
    { at: made[1], n: 500 },
  ]);
  // Without rows a partition may be as wide as a week. A cluster that was away for months goes on now.
  const later = now + 90 * 24 * HOUR_MS;
  await ensureFeedPartitions(db, later);
  const ahead = (await feedPartitions(db)).filter(({ from }) => from > firstIdAt(later));
  expect(ahead).toHaveLength(3);
  const width = timeOfId(ahead[0]!.to) - timeOfId(ahead[0]!.from);
  expect(width).toBeGreaterThan(6 * 24 * HOUR_MS);
});

test('a busy cluster gets narrow partitions, and those with rows stay', async () => {
  const { db } = await wholeDatabase();
  await partitionFeedTable(db);
  const begin = (await feedPartitions(db)).at(-1)!.from;
  const now = timeOfId(begin) + 60_000;
  await ensureFeedPartitions(db, now);
  const [, current, next] = await feedPartitions(db);
  await db.query('insert into feed_items select n, $1::bigint + n, 7 from generate_series(1, 200000) n', [
    current!.from,
  ]);
  await expect
    .poll(async () => (await feedPartitionSizes(db)).get(current!.name)?.inserted)
    .toBeGreaterThanOrEqual(200_000);
  await db.query('insert into feed_items values (1, $1, 7)', [next!.from]);
  // 200,000 rows a minute are 20 million in 100 minutes, at each node.
  await removeWideFeedPartitions(db, now);
  await ensureFeedPartitions(db, now);
  const partitions = await feedPartitions(db);
  expect(partitions[2]).toEqual(next);
  const { distributed } = await db.sharding();
  const width = timeOfId(partitions[3]!.to) - timeOfId(partitions[3]!.from);
  if (!distributed) expect(width).toBeLessThanOrEqual(2 * HOUR_MS);
  expect(await count(db)).toBe(200_001);
});

test('a page reads the newest partitions until it is full, and no others', async () => {
  const { db, distributed } = await wholeDatabase(1_000);
  await partitionFeedTable(db);
  if (distributed) return;
  const start = (await feedPartitions(db)).at(-1)!.from;
  await ensureFeedPartitions(db, timeOfId(start) + 1_000);
  await db.query('insert into feed_items select 1, $1::bigint + n, 7 from generate_series(1, 100) n', [
    start,
  ]);
  await db.query('analyze feed_items');
  const { rows } = await db.query<{ 'QUERY PLAN': string }>(
    `explain (analyze, costs off, timing off, summary off)
     select post_id from feed_items where user_id = 1 order by post_id desc limit 20`,
  );
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
  expect(plan).not.toMatch(/Sort|Merge Append|Seq Scan/);
  expect(plan).toMatch(/feed_items_before_pkey on feed_items_before.* \(never executed\)/);
});

test('a page of a reader of many authors reads few rows', async () => {
  const { db, distributed } = await wholeDatabase();
  await partitionFeedTable(db);
  if (distributed) return;
  const at = firstIdAt(Date.UTC(2025, 0, 1));
  await db.query(`
    insert into users (id) select generate_series(1, 300);
    insert into follows (follower_id, followee_id)
      select u, 1 + (u + 5 * k) % 300 from generate_series(1, 300) u, generate_series(1, 50) k;
    insert into posts (id, author_id, body, created_at)
      select ${at} + n, 1 + n * 31 % 300, 'text', now() from generate_series(1, 9000) n;
    insert into feed_items
      select f.follower_id, p.id, p.author_id from follows f join posts p on p.author_id = f.followee_id
      where f.follower_id <= 100;
    analyze`);
  let read = 0;
  const explained = {
    async query(text: string, values: unknown[]) {
      const plan = await db.query<{ 'QUERY PLAN': string }>(
        `explain (analyze, costs off, timing off, summary off) ${text}`,
        values,
      );
      const lines = plan.rows.map((row) => row['QUERY PLAN']);
      const scans = lines.filter((line) => / on feed_items/.test(line));
      for (const scan of scans) read += Number(/rows=([\d.]+)/.exec(scan)?.[1] ?? 0);
      return db.query(text, values);
    },
  };
  const page = await postgresPages.aboveFloor(explained as never, { userId: 7, before: MAX_ID, limit: 20 });
  expect(page?.rows).toHaveLength(20);
  expect(read).toBeGreaterThanOrEqual(20);
  expect(read).toBeLessThan(100);
});

test("a role's sessions keep the plan of a page, and new partitions change it", async () => {
  const { db, distributed } = await wholeDatabase();
  await partitionFeedTable(db);
  if (distributed) return;
  await ensureFeedPartitions(db, Date.now());
  await db.query('insert into users (id) values (1), (2)');
  await db.query('insert into follows (follower_id, followee_id) values (1, 2)');
  const role = openWorkPool(db.url);
  onTestFinished(() => role.close());
  const post = async (id: number) => {
    await db.query(`insert into posts (id, author_id, body, created_at) values ($1, 2, 'text', now())`, [id]);
    await db.query('insert into feed_items values (1, $1, 2)', [id]);
  };
  const page = async (pool: Database) => {
    const read = await postgresPages.aboveFloor(pool, { userId: 1, before: MAX_ID, limit: 20 });
    return read!.rows.map(({ postId }) => postId);
  };
  const plans = async (pool: Database) => {
    const { rows } = await pool.query<{ calls: number }>(
      'select (generic_plans + custom_plans)::integer as calls from pg_prepared_statements',
    );
    return rows.map(({ calls }) => calls);
  };
  const first = firstIdAt(Date.now());
  await post(first);
  for (let n = 0; n < 8; n += 1) expect(await page(role)).toEqual([first]);
  expect(await plans(role)).toEqual([8]);
  const last = firstIdAt(Date.now() + 20 * 24 * HOUR_MS);
  await post(last);
  await ensureFeedPartitions(db, Date.now() + 21 * 24 * HOUR_MS);
  expect(await page(role)).toEqual([last, first]);
  expect(await plans(role)).toEqual([9]);
  // A command may be behind a pooler that shares sessions.
  expect(await page(db)).toEqual([last, first]);
  expect(await plans(db)).toEqual([]);
});
