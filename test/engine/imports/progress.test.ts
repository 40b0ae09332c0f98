import { expect, test } from 'vitest';
import { replay } from '../../../src/engine/imports/activity.ts';
import { generate } from '../../../src/engine/imports/generate.ts';
import { ImportTally } from '../../../src/engine/imports/partitions.ts';
import type { ImportProgress } from '../../../src/engine/imports/report.ts';
import { RowsOwed } from '../../../src/engine/imports/rowsOwed.ts';
import { listOperations } from '../../../src/engine/operations/table.ts';
import { importProgress } from '../../../src/ui/tables/imports.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { file } from '../../support/files.ts';

const OPTIONS = { users: 400, follows: [5, 200], posts: [4, 8], seed: 7 } as const;

/** Generates data and returns every state of the bar. */
async function record(cluster: TestCluster) {
  const seen: ImportProgress[] = [];
  const { posts } = await generate(
    cluster,
    OPTIONS,
    { celebrityThreshold: 150 },
    { onProgress: (progress) => seen.push(progress) },
  );
  return { result: posts!, seen };
}

/** Expects that the total of each state is right within a quarter, from a third of the work on. */
function expectHonestBar(seen: readonly ImportProgress[], finalRows: number): void {
  const bars = seen.filter(({ phase, rows }) => phase === 'delivering' && rows >= finalRows / 3);
  expect(bars.length).toBeGreaterThan(0);
  for (const { owed, rows } of bars) {
    expect(owed).toBeGreaterThan(finalRows * 0.75);
    expect(owed).toBeLessThan(finalRows * 1.25);
    expect(rows).toBeLessThanOrEqual(owed);
  }
  expect(bars.at(-1)).toMatchObject({ rows: finalRows, owed: finalRows });
  const rising = seen.map(({ rows }) => rows);
  expect(rising).toEqual(rising.toSorted((a, b) => a - b));
}

test('the bar of an import counts rows that are delivered, of the rows that are owed', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const { result, seen } = await record(cluster);
  expect(result.merged).toBeGreaterThan(0);
  expectHonestBar(seen, result.deliveries);
  const [operation] = await listOperations(cluster.db, { kind: 'generate', limit: 1 });
  expect(operation!.progress).toMatchObject({
    done: result.deliveries,
    total: result.deliveries,
    unit: 'rows',
  });
  // Every post exists now, so no row is owed.
  const again = await record(cluster);
  expect(again.result.posts).toBe(0);
  expect(again.seen.at(-1)).toMatchObject({ phase: 'posting', posts: result.posts, rows: 0, owed: 0 });
});

test('the bar holds behind other work, and when refills of follows write the same rows first', async () => {
  const cluster = await testCluster();
  const everyone = Array.from({ length: OPTIONS.users }, (_, i) => i + 1);
  await cluster.db.query('insert into users (id) select unnest($1::bigint[])', [everyone]);
  const worker = await cluster.startWorker();
  // Some authors have posts of before, so that each new follow of them is a refill.
  const old = everyone
    .slice(0, 20)
    .map((id) => `${id} 1 ${1_400_000_000 + id} MT\n`)
    .join('');
  await replay(cluster, await file(old));
  await worker.stop(5_000);
  const recording = record(cluster);
  const late = async () => {
    await expect
      .poll(async () => (await cluster.bus.depths()).length, { timeout: 60_000 })
      .toBeGreaterThan(0);
    await cluster.startWorker();
  };
  const [{ result, seen }] = await Promise.all([recording, late()]);
  expectHonestBar(seen, seen.at(-1)!.rows);
  // Refills stand in front of the posts: until the first row, the bar is about their messages.
  expect(seen.filter(({ phase }) => phase === 'waiting').length).toBeGreaterThan(0);
  expect(seen.filter(({ phase, rows }) => phase === 'delivering' && rows === 0)).toEqual([]);
  expect(result.deliveries).toBeLessThanOrEqual(seen.at(-1)!.rows);
});

test('what an import owes becomes exact while posts are stored', () => {
  const tally = new ImportTally();
  for (const author of [1, 1, 2, 3]) tally.add(author, 0);
  const followers = new Map([
    [1, 10],
    [2, 5],
  ]);
  const owed = new RowsOwed(followers, tally, 0);
  expect(owed.rows).toBe(25);
  // One of two posts of author 1 exists already.
  owed.stored([{ authorId: 1 }, { authorId: 1 }], [1]);
  expect(owed.rows).toBe(15);
  owed.stored([{ authorId: 2 }, { authorId: 3 }], [2, 3]);
  owed.end();
  expect(owed.rows).toBe(15);
  expect(new RowsOwed(followers, tally, 2).rows).toBe(13);
});

test('the line of an import names its rows, and the messages that it waits for', () => {
  const at = { posts: 10, totalPosts: 20, rows: 300, owed: 900, messages: 5, mostMessages: 30 };
  expect(importProgress({ ...at, phase: 'delivering' })).toEqual({
    title: 'delivering',
    done: 300,
    total: 900,
    unit: 'rows',
    note: '10 of 20 posts',
  });
  expect(importProgress({ ...at, phase: 'waiting' })).toMatchObject({
    done: 25,
    total: 30,
    unit: 'messages',
  });
});
