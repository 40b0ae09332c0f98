import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/engine/config/config.ts';
import type { Database } from '../../../src/engine/database/database.ts';
import {
  dropFeedPartitionsBefore,
  ensureFeedPartitions,
  feedPartitionSizes,
  feedPartitions,
} from '../../../src/engine/database/feedPartitions.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import { diagnose } from '../../../src/engine/monitoring/doctor.ts';
import { readStorage } from '../../../src/engine/monitoring/storage.ts';
import {
  measureFeedStorage,
  readFeedStorage,
  recordFeedStorage,
} from '../../../src/engine/store/feedStorage.ts';
import { freshDatabase, testCluster } from '../../support/cluster.ts';

const HOUR_MS = 3_600_000;

/** Replaces a counter of all servers in the sample of two hours ago. */
const rewriteSample = (db: Database, counter: 'wal' | 'bytes', value: string) =>
  db.query(
    `update settings set value = jsonb_set(value, array['hours', '0', $1],
       (select jsonb_object_agg(server, $2::jsonb)
        from jsonb_object_keys(value #> array['hours', '0', $1]) server))
     where name = 'storage.feeds'`,
    [counter, value],
  );

/** A database with 5,000 feed rows, measured two hours ago without them and again with them. */
async function measured() {
  const { db, url } = await freshDatabase();
  const now = Date.now();
  await ensureFeedPartitions(db, now);
  await recordFeedStorage(db, now - 2 * HOUR_MS);
  await db.query(
    'insert into feed_items select 1 + n % 50, $1::bigint + n, 7 from generate_series(1, 5000) n',
    [firstIdAt(now)],
  );
  const inserted = async () =>
    [...(await feedPartitionSizes(db)).values()].reduce((sum, size) => sum + size.inserted, 0);
  // A session reports its counts with a delay.
  await expect.poll(inserted).toBe(5_000);
  await recordFeedStorage(db, now);
  return { db, url, now };
}

const insertedRows = async ({ db }: Awaited<ReturnType<typeof measured>>) =>
  (
    await db.query<{ rows: number }>(
      `select (value #>> '{last,rows}')::integer as rows from settings where name = 'storage.feeds'`,
    )
  ).rows[0]!.rows;

test('two measurements give the WAL of a row and the growth; a removed partition takes no rows along', async () => {
  const database = await measured();
  const { db, now } = database;
  const first = (await readFeedStorage(db))!;
  const partitions = await feedPartitions(db);
  expect(first).toMatchObject({ partitions: partitions.length, rows: 5_000 });
  expect(first.bytes).toBeGreaterThan(5_000 * 50);
  expect(Date.parse(first.oldestAt!)).toBeLessThanOrEqual(now);
  expect(first.walBytesPerRow).toBeGreaterThan(30);
  const growth = first.servers.reduce((sum, server) => sum + server.growthBytesPerDay, 0);
  expect(growth, 'rows of two hours, twelve times').toBeGreaterThan(12 * 5_000 * 50);
  expect(await insertedRows(database)).toBe(5_000);
  await dropFeedPartitionsBefore(db, partitions.find(({ to }) => to > firstIdAt(now))!.to);
  await recordFeedStorage(db, now + 1_000);
  expect(await readFeedStorage(db)).toMatchObject({ rows: 0 });
  expect(await insertedRows(database)).toBe(5_000);
  // The counters of a restored database begin before the record.
  await rewriteSample(db, 'wal', '9e18');
  expect(await readFeedStorage(db)).toMatchObject({ walBytesPerRow: null });
});

test('doctor warns of a disk that is full within a week, and says how to name the size of a disk', async () => {
  const { db, url } = await measured();
  const env = { XDG_CONFIG_HOME: '/nonexistent' };
  const disk = async (size?: string) => {
    const config = await loadConfig({ databaseUrl: url }, { ...env, FEEDCTL_DATABASE_DISK: size });
    const { checks } = await diagnose(config);
    return checks.find(({ name }) => name === 'database disk')!;
  };
  expect(await disk()).toMatchObject({
    status: 'ok',
    detail: expect.stringContaining('FEEDCTL_DATABASE_DISK'),
  });
  expect(await disk('1MB')).toMatchObject({
    status: 'warning',
    detail: expect.stringMatching(/^0 B free.* full in 0 h/),
  });
  // A full disk does not grow.
  const shown = { databaseDisk: '1MB', embedded: false, dataDir: '/' };
  await rewriteSample(db, 'bytes', '9e15');
  expect((await readStorage(db, shown))!.servers[0]).toMatchObject({ freeBytes: 0, fullInSeconds: 0 });
  await rewriteSample(db, 'bytes', '0');
  expect(await disk('900TiB')).toMatchObject({
    status: 'ok',
    detail: expect.stringContaining('more than a year'),
  });
  const config = await loadConfig({ databaseUrl: url }, env);
  const embedded = (await readStorage(db, { ...config, embedded: true, dataDir: '/' }))!;
  expect(embedded.servers[0]!.freeBytes).toBeGreaterThan(0);
  await expect(loadConfig({}, { ...env, FEEDCTL_DATABASE_DISK: 'large' })).rejects.toThrow('such as 500GiB');
});

test('a worker measures when it starts, and one worker for all', async () => {
  const cluster = await testCluster();
  expect(await readStorage(cluster.db, { embedded: false, dataDir: '/' })).toBeNull();
  await cluster.startWorker();
  await expect.poll(() => readFeedStorage(cluster.db)).toBeDefined();
  // The worker's next turn may be due.
  await cluster.db.query(`
    update settings set value = to_jsonb(now() + interval '1 hour') where name = 'storage.measuredAt'`);
  const before = await readFeedStorage(cluster.db);
  await measureFeedStorage(cluster.db, Date.now() + HOUR_MS);
  expect((await readFeedStorage(cluster.db))!.measuredAt).toBe(before!.measuredAt);
});
