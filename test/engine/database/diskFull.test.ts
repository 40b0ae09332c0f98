import { spawnSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { lockCluster } from '../../../src/engine/config/clusterState.ts';
import { addContext } from '../../../src/engine/config/contexts.ts';
import { Database } from '../../../src/engine/database/database.ts';
import { prepareDataDir, startEmbeddedPostgres } from '../../../src/engine/database/embedded.ts';
import { databaseError } from '../../../src/engine/database/errors.ts';
import { explainDiskFull } from '../../../src/engine/model/diskFull.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { temporaryDirectory } from '../../support/cli.ts';
import { rejection } from '../../support/codes.ts';

const mount = (path: string, mebibytes: number): boolean =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path]).status === 0;

/** Returns whether this user may mount a small disk here. */
async function canMount(): Promise<boolean> {
  const path = await temporaryDirectory();
  return mount(path, 1) && spawnSync('umount', [path]).status === 0;
}

/** Mounts a disk that is unmounted when the test ends. */
async function disk(mebibytes: number): Promise<string> {
  const path = join(await temporaryDirectory(), 'disk');
  await mkdir(path);
  expect(mount(path, mebibytes)).toBe(true);
  onTestFinished(() => void spawnSync('umount', ['--lazy', path]));
  spawnSync('chmod', ['711', path]);
  return path;
}

/** Fills a disk to the last block. */
async function fill(path: string): Promise<string> {
  const { bavail, bsize } = statfsSync(path);
  const file = join(path, 'fill');
  await writeFile(file, Buffer.alloc(bavail * bsize)).catch(() => {});
  return file;
}

/** Other users cannot mount a small disk: these tests are skipped for them. */
const mountable = await canMount();

test('a full disk is named, whoever reports it', () => {
  const url = 'postgres://feeds@db.example/feeds';
  const ofServer = (code: string, text: string) =>
    databaseError(Object.assign(new Error(text), { code }), url);
  for (const error of [
    ofServer('53100', 'could not extend file "base/1/2": No space left on device'),
    ofServer('58030', 'could not write to file "pg_wal/xlogtemp.1": No space left on device'),
    ofServer('53100', 'could not write block 3 of temporary file'),
  ])
    expect(error).toMatchObject({ code: 'DISK_FULL', message: expect.stringContaining('db.example') });
  expect(ofServer('53200', 'out of memory')).toMatchObject({ code: 'DATABASE_ERROR' });
  const ofSystem = Object.assign(new Error('write'), { code: 'EDQUOT' });
  expect(explainDiskFull(ofSystem, '/data')).toMatchObject({
    code: 'DISK_FULL',
    suggestions: ['Make room in /data, then run the same command again.'],
  });
  const other = new FeedctlError('PORT_TAKEN', 'port 1 is in use');
  expect(explainDiskFull(other, '/data')).toBe(other);
});

test.skipIf(!mountable)('a disk that is too small for a new database', async () => {
  const dataDir = await disk(20);
  await prepareDataDir(dataDir);
  const error = await rejection(startEmbeddedPostgres(dataDir, { temporary: true }));
  expect(error).toMatchObject({ code: 'DISK_FULL', suggestions: [expect.stringContaining(dataDir)] });
  expect(error.message).not.toContain('\n');
});

test.skipIf(!mountable)(
  'a disk that fills under a running database, which goes on when there is room',
  async () => {
    const dataDir = await disk(110);
    await prepareDataDir(dataDir);
    const postgres = await startEmbeddedPostgres(dataDir, { temporary: true });
    onTestFinished(() => postgres.stop());
    const db = new Database(postgres.databaseUrl);
    onTestFinished(() => db.close());
    await db.query('create table rows (id bigint, filler text)');
    const file = await fill(dataDir);
    const insert = () =>
      db.query(`insert into rows select n, repeat('x', 1000) from generate_series(1, 20000) n`);
    expect(await rejection(insert())).toMatchObject({ code: 'DISK_FULL' });
    await rm(file);
    await db.query('insert into rows values (1, $1)', ['small']);
  },
);

test.skipIf(!mountable)('a disk that is full when feedctl writes its own files', async () => {
  const path = await disk(1);
  await fill(path);
  const contexts = addContext({ XDG_CONFIG_HOME: path }, 'prod', {});
  expect(await rejection(contexts)).toMatchObject({ code: 'DISK_FULL' });
  const locked = await lockCluster(path, 'test').catch((error) => explainDiskFull(error, path));
  expect(locked).toMatchObject({ code: 'DISK_FULL' });
});
