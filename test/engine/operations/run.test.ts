import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { type Operation, runOperation, saveProgress } from '../../../src/engine/operations/run.ts';
import {
  cancelInterrupted,
  getOperation,
  listOperations,
  requestCancel,
} from '../../../src/engine/operations/table.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';

type Progress = { rows: number };
const WORK = { kind: 'replay', key: 'a' };

const states = async (db: Database) =>
  (await db.query('select kind, key, state, progress, result from operations order by id')).rows;

test('work runs once and is noted with its result', async () => {
  const { db } = await freshDatabase();
  const result = await runOperation<Progress, object>(db, WORK, async (operation) => {
    expect(operation.progress).toBeUndefined();
    await saveProgress(db, operation.id, { rows: 5 });
    return { done: 5 };
  });
  expect(result).toEqual({ done: 5 });
  expect(await states(db)).toEqual([{ ...WORK, state: 'done', progress: { rows: 5 }, result: { done: 5 } }]);
});

test('two runs of the same work exclude each other, other work goes on', async () => {
  const { db } = await freshDatabase();
  await runOperation(db, WORK, async () => {
    expect(await rejection(runOperation(db, WORK, async () => 1))).toMatchObject({
      code: 'OPERATION_RUNNING',
    });
    expect(await runOperation(db, { ...WORK, key: 'b' }, async () => 2)).toBe(2);
    expect(await runOperation(db, { ...WORK, kind: 'rebuild' }, async () => 3)).toBe(3);
  });
  expect(await runOperation(db, WORK, async () => 4)).toBe(4);
});

test('work that failed goes on from its progress, and work that is done starts anew', async () => {
  const { db } = await freshDatabase();
  const seen: (Progress | undefined)[] = [];
  const run = (work: (operation: Operation<Progress>) => Promise<void>) =>
    runOperation<Progress, void>(db, WORK, async (operation) => {
      seen.push(operation.progress);
      await work(operation);
    });
  const failing = run(async ({ id }) => {
    await saveProgress(db, id, { rows: 7 });
    throw new Error('broken');
  });
  await expect(failing).rejects.toThrow('broken');
  await run(async () => {});
  await run(async () => {});
  expect(seen).toEqual([undefined, { rows: 7 }, undefined]);
  expect((await states(db)).map((row) => row.state)).toEqual(['done', 'done']);
});

test('a failure is noted with its code; what was interrupted stays to be gone on with', async () => {
  const { db } = await freshDatabase();
  const ending = (key: string, error: Error, signal?: AbortSignal) =>
    runOperation(db, { kind: 'replay', key, signal }, async () => {
      throw error;
    }).catch(() => {});
  await ending('a', new FeedctlError('USER_NOT_FOUND', 'there is no user 5'));
  await ending('b', new Error('broken'));
  await ending('c', new FeedctlError('INTERRUPTED', 'stopped'));
  await ending('d', new Error('broken by the signal'), AbortSignal.abort());
  const listed = await listOperations(db, { limit: 10 });
  expect(listed.map(({ key, state, error }) => [key, state, error])).toEqual([
    ['d', 'interrupted', null],
    ['c', 'interrupted', null],
    ['b', 'failed', { code: 'INTERNAL', message: 'broken' }],
    ['a', 'failed', { code: 'USER_NOT_FOUND', message: 'there is no user 5' }],
  ]);
  expect(await listOperations(db, { limit: 10, states: ['failed'], kind: 'replay' })).toHaveLength(2);
  expect(await listOperations(db, { limit: 10, kind: 'rebuild' })).toEqual([]);
});

test('an interrupted command suggests how to continue its operation', async () => {
  const { db, url } = await freshDatabase();
  const command = { id: 'replay', args: [] };
  const ofCommand = new Database(url, { invocation: { who: 'ada@db1', command } });
  onTestFinished(() => ofCommand.close());
  const abort = () => Promise.reject(new DOMException('stopped', 'AbortError'));
  const error = await rejection(runOperation(ofCommand, { kind: 'replay', key: 'a' }, abort));
  const [saved] = await listOperations(db, { limit: 1 });
  expect(error).toMatchObject({
    code: 'INTERRUPTED',
    suggestions: [
      `Run the same command again, or \`feedctl operation resume ${saved!.id}\`: it continues where it stopped.`,
    ],
  });
  const ofRole = runOperation(db, { kind: 'replay', key: 'b' }, abort);
  await expect(ofRole).rejects.toThrow(DOMException);
});

test('progress is in numbers, with the rate of this run', async () => {
  const { db } = await freshDatabase();
  const numbers = (done: number) => ({ done, total: 100, unit: 'rows' });
  const first = runOperation(db, WORK, async ({ id }) => {
    await saveProgress(db, id, { rows: 40 }, numbers(40));
    throw new FeedctlError('INTERRUPTED', 'stopped');
  });
  await rejection(first);
  await runOperation(db, WORK, async ({ id }) => {
    expect(await getOperation(db, id)).toMatchObject({ runs: 2, progress: { done: 40, rate: null } });
    await saveProgress(db, id, { rows: 50 }, numbers(50));
    await db.query(`update operations set resumed_at = noted_at - interval '2 seconds'`);
    expect(await getOperation(db, id)).toMatchObject({
      state: 'running',
      progress: { done: 50, total: 100, unit: 'rows', rate: 5, etaSeconds: 10 },
    });
  });
});

test('a running operation is told from elsewhere that it is cancelled, and stops when it is safe', async () => {
  const { db, url } = await freshDatabase();
  const elsewhere = new Database(url);
  onTestFinished(() => elsewhere.close());
  const cancelled = runOperation<Progress, void>(db, WORK, async ({ id, signal, blockCancel: halfDone }) => {
    await halfDone('the second half is missing');
    expect(await requestCancel(elsewhere, id, 'ada@db1'), 'not now').toBe(false);
    await halfDone(null);
    expect(await requestCancel(elsewhere, id, 'ada@db1')).toBe(true);
    expect(await rejection(halfDone('again'))).toMatchObject({ code: 'OPERATION_CANCELLED' });
    await expect.poll(() => signal.aborted).toBe(true);
    signal.throwIfAborted();
  });
  expect(await rejection(cancelled)).toMatchObject({
    code: 'OPERATION_CANCELLED',
    message: expect.stringContaining('ada@db1'),
  });
  expect(await getOperation(db, 1)).toMatchObject({
    state: 'cancelled',
    cancelledBy: 'ada@db1',
    error: null,
  });
  await runOperation<Progress, void>(db, WORK, async ({ id, progress }) => {
    expect([id, progress]).toEqual([2, undefined]);
    expect(await cancelInterrupted(elsewhere, id, 'ada@db1'), 'it runs').toBe(false);
  });
});

test('work whose session was ended can be resumed when the server has let its lock go', async () => {
  const { db } = await freshDatabase();
  const killed = runOperation<Progress, void>(db, WORK, async ({ id }) => {
    await saveProgress(db, id, { rows: 3 });
    await db.query(
      `select pg_terminate_backend(pid) from pg_locks
       where locktype = 'advisory'
         and database = (select oid from pg_database where datname = current_database())`,
    );
  });
  await expect(killed).rejects.toThrow();
  const held = `select from pg_locks where locktype = 'advisory'
                  and database = (select oid from pg_database where datname = current_database())`;
  await expect.poll(async () => (await db.query(held)).rowCount).toBe(0);
  const progress = await runOperation<Progress, Progress | undefined>(db, WORK, async (o) => o.progress);
  expect(progress).toEqual({ rows: 3 });
});
