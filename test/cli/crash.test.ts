import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import {
  DEMO_ACTIVITY,
  DEMO_GRAPH,
  feedctl,
  json,
  NOTHING_WRONG,
  postgresOf,
  type Running,
  sql,
  start,
  temporaryDirectory,
  type UpCluster,
  up,
  waitUntil,
} from '../support/cli.ts';

const ROWS = 20_000;

let whole: { deliveries: number; merged: number };

async function seeded(dataDir: string): Promise<UpCluster> {
  const cluster = await up(dataDir);
  await json(['seed', 'graph', DEMO_GRAPH, ...cluster.at]);
  return cluster;
}

const postsIn = async (cluster: UpCluster): Promise<number> =>
  Number((await sql<{ n: string }>(cluster.databaseUrl, 'select count(*) as n from posts'))[0]!.n);

/** Starts a replay and returns in the middle of it: some posts are in, others are not. */
async function halfReplayed(cluster: UpCluster): Promise<Running> {
  const replay = start(['replay', DEMO_ACTIVITY, ...cluster.at, '--json']);
  const watching = waitUntil(async () => (await postsIn(cluster)) > 0);
  await watching;
  return replay;
}

async function expectWhole(cluster: UpCluster): Promise<void> {
  expect(await postsIn(cluster)).toBe(ROWS);
  const verified = await json<{ checked: number }>(['feed', 'verify', '--all', ...cluster.at]);
  expect(verified).toMatchObject(NOTHING_WRONG);
  const [rows] = await sql<{ n: string }>(cluster.databaseUrl, 'select count(*) as n from feed_items');
  expect(Number(rows!.n)).toBe(whole.deliveries);
  const again = await json(['replay', DEMO_ACTIVITY, ...cluster.at]);
  expect(again).toMatchObject({ posts: 0, deliveries: 0, merged: 0 });
  expect(await postsIn(cluster)).toBe(ROWS);
}

beforeAll(async () => {
  const cluster = await seeded(await temporaryDirectory());
  whole = await json(['replay', DEMO_ACTIVITY, ...cluster.at]);
  expect(whole).toMatchObject({ posts: ROWS });
  await expectWhole(cluster);
  cluster.child.kill('SIGTERM');
  await cluster.ended;
});

test('kill -9 of the cluster in the middle of a replay', async () => {
  const dataDir = await temporaryDirectory();
  const first = await seeded(dataDir);
  const interrupted = await halfReplayed(first);
  first.child.kill('SIGKILL');
  const failed = await interrupted.ended;
  expect(failed.status).toBe(3);
  expect(JSON.parse(failed.stdout)).toMatchObject({ error: { code: 'DATABASE_UNREACHABLE' } });
  await waitUntil(() => postgresOf(dataDir).length === 0);

  const second = await up(dataDir);
  await json(['replay', DEMO_ACTIVITY, ...second.at]);
  await expectWhole(second);
});

test('kill -9 of the replay, and a start right after a killed cluster', async () => {
  const dataDir = await temporaryDirectory();
  const first = await seeded(dataDir);
  const killed = await halfReplayed(first);
  killed.child.kill('SIGKILL');
  expect((await killed.ended).status).toBe('SIGKILL');
  // The old server may still be on its way down: the new one waits for it.
  first.child.kill('SIGKILL');
  const second = await up(dataDir);
  await json(['replay', DEMO_ACTIVITY, ...second.at]);
  await expectWhole(second);
});

test('Ctrl-C in the middle of a replay: resumable, and it says so', async () => {
  const cluster = await seeded(await temporaryDirectory());
  const replay = await halfReplayed(cluster);
  replay.child.kill('SIGINT');
  const ended = await replay.ended;
  // A replay that was all but done when the signal came has nothing left to interrupt.
  if (ended.status !== 0) {
    expect(ended.status).toBe(3);
    expect(JSON.parse(ended.stdout)).toMatchObject({ error: { code: 'INTERRUPTED' } });
  }
  await json(['replay', DEMO_ACTIVITY, ...cluster.at]);
  await expectWhole(cluster);
});

test('a database that is killed ends `up` with an error, and the next `up` goes on', async () => {
  const directory = await temporaryDirectory();
  const cluster = await up(directory);
  await json(['user', 'create', '--id', '7', ...cluster.at]);
  const [pid] = readFileSync(join(directory, 'postgres', 'postmaster.pid'), 'utf8').split('\n');
  process.kill(Number(pid), 'SIGKILL');
  const { status, stdout, stderr } = await cluster.ended;
  expect(status).toBe(1);
  expect(stderr).toContain('EMBEDDED_POSTGRES_FAILED');
  expect(JSON.parse(stdout), 'one JSON value, as it was ready').toMatchObject({ ready: true });
  const again = await up(directory);
  expect(await json(['user', 'show', '7', ...again.at])).toMatchObject({ id: 7 });
  await feedctl(['down', ...again.at]);
});
