import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { lockCluster, readClusterState } from '../../../src/engine/config/clusterState.ts';
import { rejection } from '../../support/codes.ts';

const LOCKER = fileURLToPath(new URL('locker.ts', import.meta.url));

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'feedctl-lock-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Remains of a killed process. No process has this number. */
const dead = JSON.stringify({ pid: 2 ** 30, processStart: '1', version: 'test', startedAt: 'long ago' });

test('one holds it, others are told who; released, the next one has it', async () => {
  const path = await directory();
  const lock = await lockCluster(path, '1.2.3');
  expect(await readClusterState(path)).toMatchObject({ pid: process.pid, version: '1.2.3' });
  const refused = await rejection(lockCluster(path, 'other'));
  expect(refused).toMatchObject({ code: 'CLUSTER_ALREADY_RUNNING' });
  expect(refused.message).toContain(String(process.pid));
  await lock.publish({ databaseUrl: 'postgres://x', gatewayUrl: 'http://y' });
  expect(await readClusterState(path)).toMatchObject({ databaseUrl: 'postgres://x' });
  await lock.release();
  expect(await readClusterState(path)).toBeUndefined();
  await (await lockCluster(path, 'other')).release();
  expect((await readdir(path)).filter((name) => name.includes('new'))).toEqual([]);
});

test.each([
  ['nothing', {}],
  ['a claim of a process that is gone', { 'cluster.lock.7': dead, 'cluster.json': dead }],
  ['a claim that was cut short', { 'cluster.lock.3': dead.slice(0, 20) }],
  ['the file of an older version', { 'cluster.json': dead }],
])('of many at the same instant one wins, over %s', async (_, files) => {
  for (let round = 0; round < 25; round += 1) {
    const path = await directory();
    for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text);
    const tried = await Promise.allSettled(Array.from({ length: 8 }, () => lockCluster(path, 'test')));
    const won = tried.filter((one) => one.status === 'fulfilled');
    expect(won).toHaveLength(1);
    expect(await readClusterState(path)).toMatchObject({ pid: process.pid });
    await won[0]!.value.release();
  }
});

test('of many processes one wins, over what the last ones left when they were killed', async () => {
  const path = await directory();
  for (let round = 0; round < 4; round += 1) {
    const at = String(Date.now() + 1_500);
    const children: ChildProcess[] = Array.from({ length: 5 }, () =>
      spawn(process.execPath, [LOCKER, path, at], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    const ended = children.map((child) => once(child, 'exit'));
    try {
      const answers = await Promise.all(
        children.map(async (child) => String((await once(child.stdout!, 'data'))[0]).trim()),
      );
      expect(answers.toSorted()).toEqual([...Array(4).fill('CLUSTER_ALREADY_RUNNING'), 'won']);
    } finally {
      for (const child of children) child.kill('SIGKILL');
      await Promise.all(ended);
    }
  }
});
