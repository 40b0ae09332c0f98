import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freshVhost } from '../support/broker.ts';
import {
  emptyDatabase,
  feedctl,
  json,
  NOTHING_WRONG,
  temporaryDirectory,
  testRole,
  waitUntil,
} from '../support/cli.ts';
import { citusDatabase } from '../support/cluster.ts';
import { findServer } from '../support/server.ts';
import { EVERY_FOUNDATION } from '../support/spawnedCluster.ts';

const [rabbitmq, citus] = [await findServer('rabbitmq'), await findServer('citus')];

type At = { env: Record<string, string> };
interface Paused {
  changed: string[];
  workers: { standing: number; of: number };
  lanes: { lane: string; paused: { by: string; reason: string | null } | null }[];
}

const startWorker = (at: At) => testRole(['worker', 'start'], at);

/** One author with 300 followers. */
async function seed(at: At): Promise<void> {
  const graph = join(await temporaryDirectory(), 'graph.txt');
  await writeFile(graph, Array.from({ length: 300 }, (_, i) => `${i + 2} 1`).join('\n'));
  await json(['seed', 'graph', graph], at);
}

const post = async (at: At, text: string) =>
  (await json<{ id: number }>(['post', 'create', '1', text], at)).id;
const shown = async (at: At) =>
  (await json<{ items: { postId: number }[] }>(['feed', 'show', '2'], at)).items.map((item) => item.postId);

/** What an operator does with lanes, and what a crash meanwhile leaves of it. */
async function operate(at: At): Promise<void> {
  await seed(at);
  const victim = await startWorker(at);
  const pause = ['fanout', 'pause', '--lane', 'all', '--reason', 'a bad import'];
  expect(await json([...pause, '--dry-run'], at)).toMatchObject({ changed: ['live', 'bulk'], dryRun: true });
  const paused = await json<Paused>(pause, at);
  expect(paused).toMatchObject({ changed: ['live', 'bulk'], workers: { standing: 1, of: 1 } });
  const first = await post(at, 'while paused');

  // What is killed while it is paused is no more than gone; what comes then is told by the database.
  victim.child.kill('SIGKILL');
  await victim.ended;
  await startWorker(at);
  const second = await post(at, 'after the crash');
  await waitUntil(async () => {
    const { workers } = await json<{ workers: { ready: boolean; paused: string[] }[] }>(
      ['worker', 'list'],
      at,
    );
    return workers.some((worker) => worker.ready && worker.paused.length === 2);
  });
  expect(await shown(at)).toEqual([]);
  const explained = await json(['feed', 'explain', '2', String(second)], at);
  expect(explained).toMatchObject({
    verdict: 'pending',
    reason: expect.stringMatching(/live lane is PAUSED .*a bad import/),
  });
  const again = await json<Paused>(['fanout', 'pause', '--lane', 'live', '--reason', 'other'], at);
  expect(again.changed).toEqual([]);
  expect(again.lanes.map((lane) => lane.paused?.reason)).toEqual(['a bad import', 'a bad import']);
  for (const command of [['status'], ['worker', 'list'], ['doctor']]) {
    const { stdout } = await feedctl(command, at);
    expect(stdout, command.join(' ')).toMatch(/live lane.*PAUSED since .* by .*@.*: a bad import/);
  }
  expect(await json(['fanout', 'resume', '--lane', 'all', '--dry-run'], at)).toMatchObject({
    changed: ['live', 'bulk'],
  });
  expect(await shown(at)).toEqual([]);

  expect(
    await json(['fanout', 'throttle', '--lane', 'live', '--rate', '1000', '--reason', 'slowly'], at),
  ).toMatchObject({ changed: ['live'] });
  expect((await feedctl(['fanout', 'resume', '--lane', 'all'], at)).stdout).toMatch(
    /^Resumed live and bulk\.\nThe live lane is THROTTLED to 1000 rows\/s .*: slowly/,
  );
  const posts = [first, second];
  for (let i = 0; i < 4; i += 1) posts.push(await post(at, `slowly ${i}`));
  // What waits for its turn goes back to the queue, and comes again.
  expect(await json(['fanout', 'pause', '--lane', 'live'], at)).toMatchObject({
    workers: { standing: 1, of: 1 },
  });
  expect(JSON.parse((await feedctl(['status', '--json'], at)).stdout)).toMatchObject({ ready: false });
  await json(['fanout', 'resume', '--lane', 'live'], at);
  await waitUntil(async () => (await shown(at)).length === posts.length);
  expect(await shown(at)).toEqual(posts.reverse());
  await waitUntil(async () => (await feedctl(['feed', 'verify', '--all', '--json'], at)).status === 0);
  expect(await json(['feed', 'verify', '--all'], at)).toMatchObject({ checked: 301, ...NOTHING_WRONG });
  expect(await json(['fanout', 'throttle', '--lane', 'live', '--rate', 'none'], at)).toMatchObject({
    changed: ['live'],
    lanes: [{ throttled: null }, { throttled: null }],
  });
  expect((await feedctl(['fanout', 'resume', '--lane', 'all'], at)).stdout).toBe('Not paused.\n');

  for (const wrong of [
    ['pause'],
    ['resume', '--lane', 'fast'],
    ['throttle', '--lane', 'live'],
    ['throttle', '--lane', 'live', '--rate', '999'],
    ['throttle', '--lane', 'live', '--rate', 'fast'],
  ]) {
    const outcome = await feedctl(['fanout', ...wrong, '--json'], at);
    expect([outcome.status, JSON.parse(outcome.stdout)], wrong.join(' ')).toMatchObject([
      2,
      { error: { code: 'USAGE' } },
    ]);
  }
}

test('lanes are paused, slowed down and resumed, on PostgreSQL', { timeout: 180_000 }, async () => {
  const at = { env: { FEEDCTL_DATABASE_URL: await emptyDatabase('cli_fanout') } };
  await json(['migrate'], at);
  await operate(at);
});

test.skipIf(!rabbitmq)('the same on RabbitMQ', { timeout: 180_000 }, async () => {
  const { url } = await freshVhost(rabbitmq!);
  const databaseUrl = await emptyDatabase('cli_fanout_rabbit');
  const at = { env: { FEEDCTL_DATABASE_URL: databaseUrl, FEEDCTL_BROKER_URL: url } };
  await json(['migrate', '--partitions', '2'], at);
  await operate(at);
});

test.skipIf(!citus || !EVERY_FOUNDATION)('the same on Citus', { timeout: 180_000 }, async () => {
  const { url } = await citusDatabase(citus!);
  await operate({ env: { FEEDCTL_DATABASE_URL: url } });
});
