import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { feedPartitions, targetPartitionRows } from '../../../src/engine/database/feedPartitions.ts';
import { readFeed } from '../../../src/engine/feed/read/read.ts';
import { retire } from '../../../src/engine/feed/trim/retire.ts';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { replay, replayPlan } from '../../../src/engine/imports/activity.ts';
import { seedGraph } from '../../../src/engine/imports/followGraph.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import { runOperation, saveProgress } from '../../../src/engine/operations/run.ts';
import { start, waitUntil } from '../../support/cli.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { file } from '../../support/files.ts';

const START = Date.UTC(2012, 6, 1) / 1000;

/** Users 1 to 9. Everyone follows 1, and 2 follows 3. */
async function seeded(threshold = 500): Promise<TestCluster> {
  const cluster = await testCluster();
  const follows = Array.from({ length: 8 }, (_, i) => `${i + 2} 1\n`).join('');
  await seedGraph(cluster, [await file(`${follows}2 3\n`)], { celebrityThreshold: threshold });
  return cluster;
}

/** Returns rows in pairs of the same second. */
const rows = (count: number, from = START) =>
  Array.from({ length: count }, (_, i) => `${1 + (i % 3)} 5 ${from + Math.floor(i / 2)} MT\n`).join('');

const stored = async ({ db }: TestCluster) =>
  (
    await db.query(`
      select (select count(*)::integer from posts) as posts, (select count(*)::integer from events) as events,
             (select count(*)::integer from feed_items) as items,
             (select count(*)::integer from run_batches) as runs`)
  ).rows[0]!;

test('every row is a post of its time, in the feeds of the followers', async () => {
  const cluster = await seeded();
  await cluster.startWorker();
  const result = await replay(cluster, await file(rows(9)));
  // Three posts of 1 for eight followers, three of 3 for one.
  expect(result).toMatchObject({ posts: 9, deliveries: 3 * 8 + 3, merged: 0 });
  const { items } = await readFeed(cluster.db, 2, { limit: 100 });
  expect(items.map((item) => [item.authorId, item.createdAt.getTime() / 1000 - START])).toEqual(
    [8, 7, 6, 5, 4, 3, 2, 1, 0].map((i) => [1 + (i % 3), Math.floor(i / 2)]),
  );
  expect(items[0]).toMatchObject({ body: 'MT @5', source: 'pushed' });
  expect(await verify(cluster.db, undefined)).toMatchObject({ checked: 9, mismatched: 0 });
  expect(await stored(cluster)).toEqual({ posts: 9, events: 9, items: 27, runs: 0 });
});

test('posts of celebrities are counted as merged', async () => {
  const cluster = await seeded(5);
  await cluster.startWorker();
  expect(await replay(cluster, await file(rows(9)))).toMatchObject({ posts: 9, deliveries: 3, merged: 3 });
});

test('the same file again changes nothing', async () => {
  const cluster = await seeded();
  await cluster.startWorker();
  const path = await file(rows(20));
  await replay(cluster, path);
  const before = await stored(cluster);
  expect(await replay(cluster, path)).toMatchObject({ posts: 0, deliveries: 0 });
  expect(await stored(cluster)).toEqual(before);
});

test('a file in several batches, of which some posts are there already', async () => {
  const cluster = await seeded();
  await cluster.startWorker();
  const path = await file(rows(9_000));
  await replay(cluster, path);
  await cluster.db.query('delete from posts where id % 3 = 0');
  const gone = 9_000 - (await stored(cluster)).posts;
  await cluster.db.query('delete from feed_items where post_id % 3 = 0');
  expect(await replay(cluster, path)).toMatchObject({ posts: gone });
  expect(await stored(cluster)).toMatchObject({ posts: 9_000 });
  expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 0 });
});

test('an unknown actor is named with the first line of theirs, and nothing is changed', async () => {
  const cluster = await seeded();
  const path = await file(
    `# activity\n1 5 ${START} MT\n77 5 ${START} MT\n78 5 ${START} MT\n77 5 ${START} MT\n`,
  );
  const error = await rejection(replay(cluster, path));
  expect(error).toMatchObject({ code: 'USER_NOT_FOUND' });
  expect(error.message).toContain('line 3: there is no user 77, nor 1 other actor');
  expect(await stored(cluster)).toMatchObject({ posts: 0, events: 0 });
});

test.each([
  ['a time before 2010', `1 5 ${Date.UTC(2009, 0, 1) / 1000} MT`],
  ['no time', '1 5 soon MT'],
  ['a time with a fraction', `1 5 ${START}.5 MT`],
  ['a field too few', `1 5 ${START}`],
  ['no user', `x 5 ${START} MT`],
])('%s on the last line changes nothing', async (_, line) => {
  const cluster = await seeded();
  const path = await file(`${rows(4)}${line}`);
  const error = await rejection(replay(cluster, path));
  expect(error).toMatchObject({ code: 'BAD_LINE' });
  expect(error.message).toContain('line 5:');
  expect(await stored(cluster)).toMatchObject({ posts: 0, events: 0 });
  expect((await cluster.db.query('select from imports')).rowCount).toBe(0);
});

test('another file of the same time is refused, one of another time is not', async () => {
  const cluster = await seeded();
  await cluster.startWorker();
  await replay(cluster, await file(rows(4)));
  const other = await file(rows(6));
  for (const attempt of [replayPlan, replay])
    expect(await rejection(attempt(cluster, other))).toMatchObject({ code: 'IMPORT_OVERLAP' });
  expect(await replayPlan(cluster, await file(rows(4)))).toEqual({ rows: 4 });
  expect(await stored(cluster)).toMatchObject({ posts: 4 });
  expect(await replay(cluster, await file(rows(4, START + 2)))).toMatchObject({ posts: 4 });
});

test('a file without rows is replayed in no time', async () => {
  const cluster = await seeded();
  expect(await replay(cluster, await file('# nothing\n'))).toMatchObject({ posts: 0, deliveries: 0 });
});

test('a plan counts the rows and changes nothing', async () => {
  const cluster = await seeded();
  expect(await replayPlan(cluster, await file(rows(7)))).toEqual({ rows: 7 });
  expect(await stored(cluster)).toMatchObject({ posts: 0 });
});

test('a replay goes on from the progress that an earlier run noted', async () => {
  const cluster = await seeded();
  await cluster.startWorker();
  const path = await file(rows(10));
  const key = createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
  const killed = runOperation(cluster.db, { kind: 'replay', key }, async ({ id }) => {
    await saveProgress(cluster.db, id, { rows: 6 });
    throw new Error('killed');
  });
  await expect(killed).rejects.toThrow('killed');
  expect(await replay(cluster, path)).toMatchObject({ posts: 4 });
  expect(await replay(cluster, path)).toMatchObject({ posts: 6 });
  const { items } = await readFeed(cluster.db, 2, { limit: 100 });
  expect(items).toHaveLength(10);
});

test('two replays of the same file exclude each other', async () => {
  const cluster = await seeded();
  await cluster.startWorker();
  const path = await file(rows(10));
  let second: Promise<unknown> | undefined;
  await replay(cluster, path, {
    onProgress: ({ phase }) => {
      if (phase !== 'checking') second ??= replay(cluster, path).catch((error) => error);
    },
  });
  expect(await second).toMatchObject({ code: 'OPERATION_RUNNING' });
});

test('an interrupted replay ends when its posts are written, and goes on when it is run again', async () => {
  const cluster = await seeded();
  await cluster.startWorker();
  const path = await file(rows(20_000));
  const stop = new AbortController();
  const interrupted = replay(cluster, path, {
    signal: stop.signal,
    onProgress: ({ phase }) => phase !== 'checking' && stop.abort(),
  });
  expect(await rejection(interrupted)).toMatchObject({ code: 'INTERRUPTED' });
  const { posts } = await stored(cluster);
  expect(posts).toBeLessThan(20_000);
  const noted = await cluster.db.query<{ rows: number }>(
    `select (progress ->> 'rows')::integer as rows from operations`,
  );
  expect(noted.rows).toEqual([{ rows: posts }]);
  expect(await replay(cluster, path)).toMatchObject({ posts: 20_000 - posts });
  expect(await stored(cluster)).toMatchObject({ posts: 20_000, events: 20_000 });
  expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 0 });
});

test('a replay that is interrupted while it checks the file says so', async () => {
  const cluster = await seeded();
  const interrupted = replay(cluster, await file(rows(4)), { signal: AbortSignal.abort() });
  expect(await rejection(interrupted)).toMatchObject({ code: 'INTERRUPTED' });
});

/** Six posts of a user whose followers seem so many that two posts fill a partition: one post an hour. */
async function manyRows() {
  const cluster = await seeded();
  const { db } = cluster;
  const path = await file(Array.from({ length: 6 }, (_, hour) => `1 5 ${START + hour * 3600} MT\n`).join(''));
  await db.query('update users set follower_count = $1 where id = 1', [(await targetPartitionRows(db)) / 2]);
  const old = async () =>
    (await feedPartitions(db)).flatMap(({ name, from }) =>
      from < firstIdAt(Date.UTC(2013, 0)) ? [name] : [],
    );
  return { cluster, path, old };
}

const OLD = ['before', ...['00', '02', '04', '06'].map((hour) => `20120701t${hour}_import`)].map(
  (at) => `feed_items_${at}`,
);

test('many old posts get partitions of their time, which go by the same boundaries', async () => {
  const { cluster, path, old } = await manyRows();
  const { db } = cluster;
  expect(await old()).toEqual(['feed_items_before']);
  await cluster.startWorker();
  await replay(cluster, path);
  expect(await old()).toEqual(OLD);
  const counts = async () =>
    (
      await db.query<{ at: string; n: number }>(
        'select tableoid::regclass::text as at, count(*)::integer as n from feed_items group by 1 order by 1',
      )
    ).rows;
  const { distributed } = await db.sharding();
  if (!distributed) expect(await counts()).toEqual(OLD.slice(1, 4).map((at) => ({ at, n: 16 })));
  await replay(cluster, path);
  expect(await old()).toEqual(OLD);
  const beforeMs = (START + 4 * 3600) * 1000;
  expect(await retire(db, { beforeMs })).toMatchObject({ partitions: OLD.slice(0, 3) });
  if (!distributed) expect(await counts()).toEqual([{ at: OLD[3], n: 16 }]);
  expect((await readFeed(db, 2, { limit: 100 })).items).toHaveLength(6);
  expect(await verify(db, undefined)).toMatchObject({ mismatched: 0 });
});

test('a replay that is killed between two of its partitions makes the others when it is run again', async () => {
  const { cluster, path, old } = await manyRows();
  const { db, url } = cluster;
  if ((await db.sharding()).distributed) return;
  await db.query(`
    create function stop() returns event_trigger language plpgsql as $$ begin
      if to_regclass('${OLD[2]}') is not null then perform pg_sleep(600); end if;
    end $$;
    create event trigger stop on ddl_command_end execute function stop()`);
  const replaying = start(['replay', path, '--database-url', url]);
  const asleep = `from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`;
  await waitUntil(async () => (await db.query(`select 1 ${asleep}`)).rowCount === 1);
  process.kill(replaying.pid, 'SIGKILL');
  await replaying.ended;
  // A server that waits for its own work finds out late that its client is gone.
  await db.query(`select pg_terminate_backend(pid) ${asleep}`);
  await db.query('drop event trigger stop');
  expect(await old()).toEqual(OLD.slice(0, 2));
  await cluster.startWorker();
  expect(await replay(cluster, path)).toMatchObject({ posts: 6, deliveries: 48 });
  expect(await old()).toEqual(OLD);
  expect(await verify(db, undefined)).toMatchObject({ mismatched: 0 });
});

test('a range of time that has rows stays as it is', async () => {
  const { cluster, path, old } = await manyRows();
  await cluster.db.query('insert into feed_items values (9, $1, 1)', [firstIdAt(START * 1000)]);
  await cluster.startWorker();
  expect(await replay(cluster, path)).toMatchObject({ deliveries: 48 });
  expect(await old()).toEqual(['feed_items_before']);
});
