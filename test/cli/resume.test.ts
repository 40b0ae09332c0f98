import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../src/engine/database/database.ts';
import { verify } from '../../src/engine/feed/verify/verify.ts';
import { listOperations } from '../../src/engine/operations/table.ts';
import { NOTHING_WRONG, start, waitUntil } from '../support/cli.ts';
import { file } from '../support/files.ts';
import { FOUNDATIONS, spawnedCluster } from '../support/spawnedCluster.ts';

const AUTHOR = 1;
const ERASED = 7;
const FOLLOWERS = 30;

/**
 * Step at which each operation is killed. No worker runs, so events stay in their queues, and
 * operations that wait for fan-out keep waiting. The tests of replay, rebuild, purge and rebalance
 * resume those operations.
 */
const WORK = [
  { command: ['celebrity', 'mark', `${AUTHOR}`], kind: 'celebrity', at: 'pull' },
  { command: ['celebrity', 'unmark', `${AUTHOR}`], kind: 'celebrity', at: 'both' },
  { command: ['celebrity', 'evaluate', '--threshold', '10', '--apply'], kind: 'celebrity evaluation' },
  { command: ['user', 'erase', `${ERASED}`, '--yes', `${ERASED}`], kind: 'user erase', at: 'sockets' },
];

test('what was killed between two of its steps goes on by its number, whoever types it', {
  timeout: 180_000,
}, async () => {
  const cluster = await spawnedCluster(FOUNDATIONS[0]);
  const edges = Array.from({ length: FOLLOWERS }, (_, i) => `${i + 2} ${AUTHOR}`).join('\n');
  await cluster.json('seed', 'graph', await file(`${edges}\n`, 'one.edgelist'));
  const db = new Database(cluster.url);
  onTestFinished(() => db.close());
  const last = async (kind: string) => (await listOperations(db, { kind, limit: 1 }))[0]!;

  for (const { command, kind, at } of WORK) {
    if (kind === 'celebrity evaluation') await cluster.json('celebrity', 'unpin', `${AUTHOR}`);
    await cluster.json('post', 'create', `${AUTHOR}`, 'held up');
    const victim = start([...command, '--json'], cluster.at);
    // Steps of the operation itself, or of the author that it changes.
    const noted = at ? `progress->'steps' ? '${at}'` : `kind = 'celebrity' and progress->'steps' ? 'pull'`;
    const running = `select 1 from operations where state = 'running' and ${noted}`;
    await waitUntil(async () => (await db.query(running)).rowCount === 1);
    victim.child.kill('SIGKILL');
    await victim.ended;
    await waitUntil(async () => (await last(kind)).state === 'interrupted');
    const { id, command: typed } = await last(kind);
    expect(typed).toBe(command.join(' '));
    if (kind === 'user erase')
      // Answers the confirmation with the name.
      await db.query(`update operations set args = array['${ERASED}'] where id = ${id}`);

    const worker = await cluster.worker();
    const result = await cluster.json<Record<string, unknown>>('operation', 'resume', `${id}`);
    worker.child.kill('SIGKILL');
    await worker.ended;
    if (kind === 'user erase') expect(result).toMatchObject({ userId: ERASED, left: [] });
    if (kind === 'celebrity') expect(result).toMatchObject({ changed: true, followers: FOLLOWERS });
    if (kind === 'celebrity evaluation') expect(result).toMatchObject({ applied: { marked: 1, failed: 0 } });
    expect(await last(kind)).toMatchObject({ id, state: 'done', runs: 2 });
  }
  expect((await db.query(`select 1 from operations where state <> 'done'`)).rowCount).toBe(0);
  await waitUntil(async () => (await verify(db, undefined)).mismatched === 0);
  expect(await verify(db, undefined)).toMatchObject(NOTHING_WRONG);
});
