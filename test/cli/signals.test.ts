import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { feedctl, json, postgresOf, start, temporaryDirectory, up, waitUntil } from '../support/cli.ts';

test('Ctrl-C and SIGTERM leave nothing running, and data survives', async () => {
  const dataDir = await temporaryDirectory();
  const first = await up(dataDir, { group: true });
  expect(postgresOf(dataDir)).not.toEqual([]);
  const user = await json<{ id: number }>(['user', 'create', 'Ada', ...first.at]);
  const post = await json<{ id: number }>(['post', 'create', `${user.id}`, 'hello', ...first.at]);
  // A terminal sends Ctrl-C to every process of the foreground group.
  process.kill(-first.pid, 'SIGINT');
  expect(await first.ended).toMatchObject({ status: 0 });
  expect(postgresOf(dataDir)).toEqual([]);
  expect(existsSync(join(dataDir, 'cluster.json'))).toBe(false);

  const second = await up(dataDir);
  expect(await json(['user', 'show', `${user.id}`, ...second.at])).toMatchObject({ firstName: 'Ada' });
  expect(await json(['feed', 'show', `${user.id}`, ...second.at])).toMatchObject({
    items: [{ postId: post.id, body: 'hello' }],
  });
  second.child.kill('SIGTERM');
  const ended = await second.ended;
  expect(ended).toMatchObject({ status: 0, stderr: '' });
  expect(JSON.parse(ended.stdout)).toMatchObject({ ready: true });
  expect(postgresOf(dataDir)).toEqual([]);
});

test('a signal while the cluster still starts stops it too', async () => {
  const dataDir = await temporaryDirectory();
  const starting = start(['up', '--data-dir', dataDir, '--port', '0', '--json']);
  await waitUntil(() => existsSync(join(dataDir, 'cluster.json')));
  starting.child.kill('SIGTERM');
  const { stdout, status } = await starting.ended;
  expect(JSON.parse(stdout)).toBeTypeOf('object');
  expect(status).not.toBe(1);
  expect(postgresOf(dataDir)).toEqual([]);
  const next = await up(dataDir);
  expect(await json(['status', ...next.at])).toMatchObject({ ready: true });
});

test('a second signal forces, and PostgreSQL goes away all the same', async () => {
  const dataDir = await temporaryDirectory();
  const cluster = await up(dataDir);
  cluster.child.kill('SIGTERM');
  cluster.child.kill('SIGINT');
  expect([0, 130]).toContain((await cluster.ended).status);
  await waitUntil(() => postgresOf(dataDir).length === 0);
});

test('after kill -9 PostgreSQL goes away by itself, and the next start works', async () => {
  const dataDir = await temporaryDirectory();
  const first = await up(dataDir);
  const user = await json<{ id: number }>(['user', 'create', ...first.at]);
  first.child.kill('SIGKILL');
  await first.ended;
  await waitUntil(() => postgresOf(dataDir).length === 0);
  const gone = await feedctl(['user', 'show', `${user.id}`, ...first.at, '--json']);
  expect(gone.status).toBe(1);
  expect(JSON.parse(gone.stdout)).toMatchObject({ error: { code: 'CLUSTER_NOT_RUNNING' } });
  const second = await up(dataDir);
  expect(await json(['user', 'show', `${user.id}`, ...second.at])).toMatchObject({ id: user.id });
});

test('down stops the cluster; without one it says so; status tells them apart', async () => {
  const dataDir = await temporaryDirectory();
  const at = ['--data-dir', dataDir];
  expect(await json(['down', ...at])).toEqual({ stopped: false, dataDir });
  expect(await feedctl(['down', ...at])).toMatchObject({
    status: 0,
    stdout: `No cluster runs in ${dataDir}.\n`,
  });
  const without = await feedctl(['status', ...at, '--json']);
  expect(without.status).toBe(1);
  expect(JSON.parse(without.stdout)).toMatchObject({ error: { code: 'CLUSTER_NOT_RUNNING' } });

  const cluster = await up(dataDir);
  const status = await json<{ components: { ready: boolean }[]; workers: unknown[]; gateways: unknown[] }>([
    'status',
    ...at,
  ]);
  expect(status).toMatchObject({ context: 'local', ready: true });
  expect(status.components.every((component) => component.ready)).toBe(true);
  expect([status.workers.length, status.gateways.length]).toEqual([1, 1]);
  expect(await json(['down', ...at])).toEqual({ stopped: true, dataDir });
  expect(await cluster.ended).toMatchObject({ status: 0 });
  expect(postgresOf(dataDir)).toEqual([]);
});

/** A Node too old to run feedctl: bin/run.js then starts the one it brings along. */
const OLD_NODE = ['/usr/bin/node', '/usr/local/bin/node'].find((path) => {
  if (!existsSync(path)) return false;
  const [major] = execFileSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' }).split('.');
  return Number(major) < 22;
});

test.skipIf(!OLD_NODE)(
  'a launcher passes on a SIGINT for it alone, and not twice what a terminal sends',
  async () => {
    for (const group of [false, true]) {
      const dataDir = await temporaryDirectory();
      const cluster = await up(dataDir, { executable: OLD_NODE!, group });
      process.kill(group ? -cluster.pid : cluster.pid, 'SIGINT');
      // 130: the second signal, which forces.
      expect(await cluster.ended).toMatchObject({ status: 0 });
      expect(postgresOf(dataDir)).toEqual([]);
    }
  },
);
