import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freshVhost } from '../support/broker.ts';
import {
  emptyDatabase,
  feedctl,
  json,
  type Running,
  startRole,
  temporaryDirectory,
  up,
  waitUntil,
} from '../support/cli.ts';
import { openProxy } from '../support/proxy.ts';
import { findServer } from '../support/server.ts';

const broker = await findServer('rabbitmq');

interface Worker {
  id: string;
  pid: number;
  ready: boolean;
  rowsWritten: number;
  rowsPerSecond: number;
  lagMs: number | null;
  memoryBytes: number;
  reads: string[] | null;
}

let at: { env: Record<string, string> };
const roles: Running[] = [];
const listed = async () => (await json<{ workers: Worker[] }>(['worker', 'list'], at)).workers;

async function startWorker(): Promise<Running & { id: string }> {
  const role = await startRole(['worker', 'start'], at);
  roles.push(role);
  return { ...role, id: (JSON.parse(role.stdout()) as { workerId: string }).workerId };
}

beforeAll(async () => {
  at = { env: { FEEDCTL_DATABASE_URL: await emptyDatabase('cli_workers') } };
  await json(['migrate'], at);
});
afterAll(() => {
  for (const role of roles) role.child.kill('SIGTERM');
});

test('workers are listed with what they do, and one is drained: its process exits with 0', async () => {
  expect(await listed()).toEqual([]);
  expect((await feedctl(['worker', 'list'], at)).stdout).toBe('No workers.\n');
  const first = await startWorker();
  const second = await startWorker();
  for (const id of ['1', '2']) await json(['user', 'create', '--id', id], at);
  await json(['follow', 'create', '2', '1'], at);
  await json(['post', 'create', '1', 'hello'], at);
  await waitUntil(async () => (await listed()).some((worker) => worker.rowsWritten > 0));
  const workers = await listed();
  expect(workers.map(({ id }) => id)).toEqual([first.id, second.id]);
  for (const worker of workers)
    expect(worker).toMatchObject({ ready: true, reads: null, memoryBytes: expect.any(Number) });
  expect(workers.find((worker) => worker.rowsWritten > 0)).toMatchObject({
    rowsPerSecond: expect.any(Number),
    lagMs: expect.any(Number),
  });
  const text = await feedctl(['worker', 'list'], at);
  expect(text.stdout).toMatch(/^worker +host +pid +state +reads +paused +rows\/s +lag +memory +version/);
  expect(text.stdout).toContain(first.id);

  const drain = ['worker', 'drain', first.id];
  const asked = await feedctl([...drain, '--json'], at);
  expect(asked.status).toBe(2);
  expect(JSON.parse(asked.stdout)).toMatchObject({ error: { code: 'CONFIRMATION_REQUIRED' } });
  expect(await json([...drain, '--dry-run'], at)).toMatchObject({ drained: false, dryRun: true });
  expect((await feedctl([...drain, '--dry-run'], at)).stdout).toMatch(/^Would drain .*1 other worker/);
  expect(await json([...drain, '--yes'], at)).toMatchObject({ workerId: first.id, drained: true });
  expect(await first.ended).toMatchObject({ status: 0 });
  expect((await listed()).map(({ id }) => id)).toEqual([second.id]);

  const again = await feedctl([...drain, '--yes', '--json'], at);
  expect(again.status).toBe(1);
  expect(JSON.parse(again.stdout)).toMatchObject({ error: { code: 'WORKER_NOT_FOUND' } });
  second.child.kill('SIGKILL');
  await second.ended;
  expect(await listed()).toMatchObject([{ id: second.id, ready: false }]);
  const dead = await feedctl(['worker', 'drain', second.id, '--yes', '--json'], at);
  expect(JSON.parse(dead.stdout)).toMatchObject({ error: { code: 'WORKER_NOT_FOUND' } });
});

test('the worker of `up` is not drained: that is more than a worker', async () => {
  const cluster = await up(await temporaryDirectory());
  const { workers } = await json<{ workers: Worker[] }>(['worker', 'list', ...cluster.at]);
  const refused = await feedctl(['worker', 'drain', workers[0]!.id, '--yes', '--json', ...cluster.at]);
  expect(refused.status).toBe(2);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    error: { code: 'USAGE', message: expect.stringContaining('feedctl down') },
  });
  expect((await feedctl(['down', ...cluster.at])).status).toBe(0);
});

describe.skipIf(!broker)('on RabbitMQ', () => {
  test('each partition is read by one worker, and the drained one’s go to the other', async () => {
    const direct = new URL((await freshVhost(broker!)).url);
    const proxy = await openProxy(direct.href);
    direct.host = new URL(proxy.url).host;
    at = {
      env: {
        FEEDCTL_DATABASE_URL: await emptyDatabase('cli_workers_rabbit'),
        FEEDCTL_BROKER_URL: direct.href,
      },
    };
    await json(['migrate', '--partitions', '2'], at);
    const first = await startWorker();
    await startWorker();
    const all = [
      'cleanup',
      ...['events', 'events.bulk', 'rows.live', 'rows.bulk'].flatMap((q) => [`${q}.0`, `${q}.1`]),
    ]
      .map((name) => `feed.${name}`)
      .sort();
    const reads = async () => (await listed()).map((worker) => worker.reads!);
    await waitUntil(async () => {
      const parts = await reads();
      return parts.every((names) => names.length > 0) && parts.flat().sort().join() === all.join();
    });
    const ready = async (command: string[]) => {
      const { stdout } = await feedctl([...command, '--json'], at);
      return (JSON.parse(stdout) as { workers: Worker[] }).workers.map((worker) => worker.ready).join();
    };
    const said = () => Promise.all([['worker', 'list'], ['status'], ['top', '--once']].map(ready));
    const allSay = async (what: string) => (await said()).every((answer) => answer === what);
    await waitUntil(() => allSay('true,true'));
    proxy.cut();
    await waitUntil(() => allSay('false,false'));
    proxy.open();
    await waitUntil(() => allSay('true,true'));
    await json(['worker', 'drain', first.id, '--yes'], at);
    await waitUntil(async () => (await reads()).flat().sort().join() === all.join());
    expect(await reads()).toHaveLength(1);
  });
});
