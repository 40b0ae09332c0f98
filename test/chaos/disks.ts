import { execFileSync } from 'node:child_process';
import { mkdirSync, statfsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { ServerFiles } from '../support/standby.ts';

const ROOM = '4g';
const BLOCK = 4_096;
/** The disk is full when the server has written so much more. */
const LEFT_BYTES = 64 * 1_024;

const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe' });

/** Returns the data directory of a database, on its own disk. */
export const diskPgdataOf = ({ dataDir }: ServerFiles, index: number): string =>
  join(dataDir, `disk${index}`, 'postgres');

/** Gives two databases a disk each, in memory. Returns why that is not possible here. */
export function mountDisks(files: ServerFiles): string | undefined {
  const disks = [0, 1].map((index) => dirname(diskPgdataOf(files, index)));
  try {
    for (const disk of disks) {
      mkdirSync(disk);
      run('mount', '-t', 'tmpfs', '-o', `size=${ROOM},mode=711`, 'feedctl-chaos', disk);
      // Lazily: a server of a test that failed may still end.
      onTestFinished(() => void run('umount', '--lazy', disk));
    }
  } catch (error) {
    return `no disk can be mounted: ${String((error as { stderr?: string }).stderr ?? error).trim()}`;
  }
  run('cp', '-a', files.pgdata, diskPgdataOf(files, 0));
  return undefined;
}

/** Leaves no more than some pages on the disk of a data directory. */
export function limitDisk(pgdata: string): void {
  const disk = dirname(pgdata);
  const { blocks, bfree, bsize } = statfsSync(disk);
  const used = (blocks - bfree) * bsize;
  const size = Math.ceil((used + LEFT_BYTES) / BLOCK) * BLOCK;
  run('mount', '-o', `remount,size=${size}`, disk);
}

export const freeDisk = (pgdata: string): void =>
  void run('mount', '-o', `remount,size=${ROOM}`, dirname(pgdata));
