import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { workerStates } from '../../../src/engine/fleet/workers.ts';
import { ProcessStats, type StatsReport } from '../../../src/engine/stats/process.ts';
import { saveStats } from '../../../src/engine/stats/table.ts';
import { workerHeartbeat } from '../../../src/engine/store/processes.ts';
import { freshDatabase } from '../../support/cluster.ts';

test('the work of a worker is that of the last report of its process', async () => {
  const { db } = await freshDatabase();
  const [reporting, older, silent] = [randomUUID(), randomUUID(), randomUUID()];
  for (const [i, id] of [reporting, older, silent].entries()) {
    const identity = { host: 'h', pid: 1, version: 'test', startedAt: new Date(i * 1_000), drainable: true };
    await workerHeartbeat(db, { id, ...identity }, { reads: null, paused: [], live: true });
  }
  const save = (worker: string, figures: StatsReport) =>
    saveStats(
      db,
      { id: randomUUID(), host: 'h', pid: 1 },
      { worker, gateway: null, sockets: null, memoryBytes: 5e7, cpu: 0 },
      { figures, errors: [] },
    );
  const report = new ProcessStats().report();
  await save(reporting, { ...report, worker: { rowsWritten: 7, rowsPerSecond: 1.5, lagMs: 20 } });
  await save(older, report);
  const unknown = { rowsWritten: 0, rowsPerSecond: null, lagMs: null };
  expect(await workerStates(db)).toMatchObject([
    { id: reporting, ready: true, rowsWritten: 7, rowsPerSecond: 1.5, lagMs: 20, memoryBytes: 5e7 },
    { id: older, ready: true, ...unknown, memoryBytes: 5e7 },
    { id: silent, ready: true, ...unknown, memoryBytes: null },
  ]);
  await db.query(`update process_figures set seen_at = now() - interval '20 s'`);
  expect(await workerStates(db)).toMatchObject([unknown, unknown, unknown]);
});
