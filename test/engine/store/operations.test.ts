import { expect, test } from 'vitest';
import type { Database } from '../../../src/engine/store/database.ts';
import { noteProgress, type Operation, runOperation } from '../../../src/engine/store/operations.ts';
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
    await noteProgress(db, operation.id, { rows: 5 });
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
    await noteProgress(db, id, { rows: 7 });
    throw new Error('broken');
  });
  await expect(failing).rejects.toThrow('broken');
  await run(async () => {});
  await run(async () => {});
  expect(seen).toEqual([undefined, { rows: 7 }, undefined]);
  expect((await states(db)).map((row) => row.state)).toEqual(['done', 'done']);
});

test('work whose session was ended can be resumed when the server has let its lock go', async () => {
  const { db } = await freshDatabase();
  const killed = runOperation<Progress, void>(db, WORK, async ({ id }) => {
    await noteProgress(db, id, { rows: 3 });
    await db.query(
      `select pg_terminate_backend(pid) from pg_locks
       where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`,
    );
  });
  await expect(killed).rejects.toThrow();
  const held = `select from pg_locks where locktype = 'advisory'
                  and database = (select oid from pg_database where datname = current_database())`;
  await expect.poll(async () => (await db.query(held)).rowCount).toBe(0);
  const progress = await runOperation<Progress, Progress | undefined>(db, WORK, async (o) => o.progress);
  expect(progress).toEqual({ rows: 3 });
});
