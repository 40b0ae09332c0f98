import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { listWorkers, removeDeadWorkers, workerHeartbeat } from '../../../src/engine/store/processes.ts';
import { freshDatabase } from '../../support/cluster.ts';

const beat = (live: boolean) => ({
  reads: ['feed.rows.live.0'],
  paused: ['bulk'],
  live,
});

test('a worker that was taken for dead is there again with its next heartbeat', async () => {
  const { db } = await freshDatabase();
  const worker = {
    id: randomUUID(),
    host: 'h',
    pid: 7,
    version: 'test',
    startedAt: new Date(1_000_000),
    drainable: true,
  };
  await workerHeartbeat(db, worker, beat(true));
  await db.query(`update workers set heartbeat_at = now() - interval '1 minute'`);
  await removeDeadWorkers(db, 30);
  expect(await listWorkers(db)).toEqual([]);
  await workerHeartbeat(db, worker, beat(true));
  await workerHeartbeat(db, worker, beat(false));
  expect(await listWorkers(db)).toMatchObject([
    { ...worker, reads: ['feed.rows.live.0'], paused: ['bulk'], live: false },
  ]);
});
