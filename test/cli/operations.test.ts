import { copyFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import pg from 'pg';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { OperationRow } from '../../src/engine/operations/table.ts';
import {
  DEMO_ACTIVITY,
  DEMO_GRAPH,
  feedctl,
  json,
  NOTHING_WRONG,
  type Outcome,
  type Running,
  sql,
  start,
  temporaryDirectory,
  type UpCluster,
  up,
  waitUntil,
} from '../support/cli.ts';

let cluster: UpCluster;
let directory: string;
let activity: string;

beforeAll(async () => {
  directory = await temporaryDirectory();
  activity = join(directory, 'activity.txt.gz');
  await copyFile(DEMO_ACTIVITY, activity);
  cluster = await up(await temporaryDirectory());
  await json(['seed', 'graph', DEMO_GRAPH, ...cluster.at]);
});
afterAll(async () => {
  await feedctl(['down', ...cluster.at]);
});

const list = async (...flags: string[]) =>
  (await json<{ operations: OperationRow[] }>(['operation', 'list', ...flags, ...cluster.at])).operations;
const show = (id: number) =>
  json<OperationRow & Record<string, unknown>>(['operation', 'show', `${id}`, ...cluster.at]);
const errorOf = ({ stdout }: Outcome) =>
  (JSON.parse(stdout) as { error: { code: string; message: string } }).error;

/** A replay that is held up, until `go`: at its first posts, or when it has posted some that are new. */
async function replaying(
  at: 'begin' | 'middle',
): Promise<{ replay: Running; id: number; go(): Promise<void> }> {
  const holder = new pg.Client({ connectionString: cluster.databaseUrl });
  await holder.connect();
  holder.on('error', () => {});
  onTestFinished(() => holder.end());
  const hold = () => holder.query('begin; lock table posts in share mode');
  await hold();
  const replay = start(['replay', activity, '--json', ...cluster.at]);
  const found = (text: string, rows: number) => async () =>
    (await sql(cluster.databaseUrl, text)).length >= rows;
  // Two batches at a time.
  await waitUntil(found(`select 1 from pg_locks where not granted and relation = 'posts'::regclass`, 2));
  if (at === 'middle') {
    // Whoever waits goes on, and this one waits for them: those who come later wait for this one.
    await holder.query('commit');
    await hold();
    await waitUntil(found(`select 1 from operations where state = 'running' and done > 0`, 1));
  }
  const [row] = await sql<{ id: string }>(cluster.databaseUrl, 'select max(id) as id from operations');
  return { replay, id: Number(row!.id), go: () => holder.end() };
}

test('a replay that is killed is interrupted, and goes on by its number to the end', async () => {
  expect(await list()).toEqual([]);
  expect((await feedctl(['operation', 'list', ...cluster.at])).stdout).toBe('No operations.\n');
  const { replay, id, go } = await replaying('middle');
  expect(await show(id)).toMatchObject({
    kind: 'replay',
    state: 'running',
    progress: { unit: 'rows', total: expect.any(Number) },
  });
  const owed = (await show(id)).progress!.total!;
  expect(owed, 'rows of feeds, not of the file').toBeGreaterThan(20_000);
  const twice = await feedctl(['operation', 'resume', `${id}`, '--json', ...cluster.at]);
  expect([twice.status, errorOf(twice).code]).toEqual([1, 'OPERATION_RUNNING']);

  replay.child.kill('SIGKILL');
  await replay.ended;
  await go();
  await waitUntil(async () => (await show(id)).state === 'interrupted');
  expect(await list('--state', 'interrupted', '--kind', 'replay')).toMatchObject([
    { id, command: `replay ${activity}`, who: expect.stringMatching(/.@./), finishedAt: null },
  ]);

  await rm(activity);
  const gone = await feedctl(['operation', 'resume', `${id}`, '--json', ...cluster.at]);
  expect([gone.status, errorOf(gone).code]).toEqual([1, 'OPERATION_INPUT_CHANGED']);
  await writeFile(activity, gzipSync('1 2 1600000000 RT\n'));
  const changed = await feedctl(['operation', 'resume', `${id}`, ...cluster.at]);
  expect(changed).toMatchObject({ status: 1, stdout: '' });
  expect(changed.stderr).toMatch(/not the file that it began with \(OPERATION_INPUT_CHANGED\)/);
  await copyFile(DEMO_ACTIVITY, activity);

  const planned = await json(['operation', 'resume', `${id}`, '--dry-run', ...cluster.at]);
  expect(planned).toMatchObject({ dryRun: true });
  expect(await show(id)).toMatchObject({ state: 'interrupted', runs: 1 });

  const { posts } = await json<{ posts: number }>(['operation', 'resume', `${id}`, ...cluster.at]);
  expect(posts).toBeLessThan(20_000);
  expect(await show(id)).toMatchObject({
    state: 'done',
    runs: 2,
    result: { posts },
    progress: { done: owed, total: owed },
  });
  expect(await json(['feed', 'verify', '--all', ...cluster.at])).toMatchObject(NOTHING_WRONG);
  for (const command of ['resume', 'cancel']) {
    const ended = await feedctl(['operation', command, `${id}`, '--json', ...cluster.at]);
    expect(ended.status).toBe(1);
    expect(errorOf(ended).code).toBe(`OPERATION_NOT_${command === 'resume' ? 'RESUMABLE' : 'CANCELLABLE'}`);
  }
});

test('a replay is cancelled while it runs, and one that was interrupted; both are heard of', async () => {
  const { replay, id, go } = await replaying('begin');
  expect(await json(['operation', 'cancel', `${id}`, '--dry-run', ...cluster.at])).toMatchObject({
    was: 'running',
  });
  const asked = await feedctl(['operation', 'cancel', `${id}`, '--timeout', '0', '--json', ...cluster.at]);
  expect(asked.status, 'it has not come to a safe point').toBe(3);
  expect(JSON.parse(asked.stdout)).toEqual({ id, state: 'running', was: 'running', dryRun: false });
  expect((await feedctl(['operation', 'list', ...cluster.at])).stdout).toContain('stopping');
  await go();
  const ended = await replay.ended;
  expect([ended.status, errorOf(ended).code]).toEqual([3, 'OPERATION_CANCELLED']);
  expect(await show(id)).toMatchObject({ state: 'cancelled', cancelledBy: expect.stringContaining('@') });

  const next = await replaying('begin');
  expect(next.id, 'it begins anew').not.toBe(id);
  next.replay.child.kill('SIGINT');
  await next.go();
  expect((await next.replay.ended).status).toBe(3);
  expect(await show(next.id)).toMatchObject({ state: 'interrupted' });
  const text = await feedctl(['operation', 'cancel', `${next.id}`, ...cluster.at]);
  expect(text).toMatchObject({ status: 0, stdout: `Cancelled operation ${next.id}.\n` });
  expect(await show(next.id)).toMatchObject({ state: 'cancelled' });
  const resumed = await feedctl(['operation', 'resume', `${next.id}`, ...cluster.at]);
  expect(resumed.stderr).toContain('(OPERATION_NOT_RESUMABLE)');
  const table = await feedctl(['operation', 'list', ...cluster.at], { env: { NO_COLOR: '1' } });
  expect(table.stdout).toMatch(/^id +state +work/);
  expect(table.stdout).toMatch(/cancelled +replay .*by .+@/);
});

test('operations are among the events, each start and end once', async () => {
  type Tail = { events: object[]; operations: { type: string; operationId: number; state: string }[] };
  const tail = (...flags: string[]) => json<Tail>(['events', 'tail', '-n', '10000', ...flags, ...cluster.at]);
  const { operations } = await tail();
  const ofOne = operations.filter(({ operationId }) => operationId === operations.at(-1)!.operationId);
  expect(ofOne).toMatchObject([
    { type: 'operation.started', who: expect.stringContaining('@') },
    { type: 'operation.ended', state: 'cancelled', result: null },
  ]);
  expect((await tail('--type', 'post.created')).operations).toEqual([]);
  const text = await feedctl(['events', 'tail', ...cluster.at]);
  expect(text.stdout).toMatch(/ operation\.ended {2}replay .* by \S+@\S+ {2}cancelled\n/);
});

test('a number that is no operation, and flags that are wrong', async () => {
  const unknown = await feedctl(['operation', 'show', '999', '--json', ...cluster.at]);
  expect([unknown.status, errorOf(unknown).code]).toEqual([1, 'OPERATION_NOT_FOUND']);
  for (const args of [
    ['show'],
    ['resume', 'x'],
    ['list', '--state', 'asleep'],
    ['cancel', '1', '--timeout', '-1'],
  ])
    expect((await feedctl(['operation', ...args, ...cluster.at])).status, args.join(' ')).toBe(2);
});
