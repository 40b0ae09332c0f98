import { mkdirSync, readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';

const IN_MEMORY = '/dev/shm';
const PREFIX = 'feedctl-tests-';
/** All suites together need less than 4 GiB. */
const NEEDED_BYTES = 8 * 2 ** 30;

/**
 * Makes the directory of temporary files of this run in memory, if the machine has room. Each test has a
 * database of hundreds of files: a file system on a disk takes a quarter of the processor to create and
 * delete them. Returns the removal.
 */
export function keepFilesInMemory(): () => void {
  if (process.env.TMPDIR || !hasRoom()) return () => {};
  for (const name of readdirSync(IN_MEMORY)) if (isLeft(name)) removeLeft(name);
  const name = `${PREFIX}${process.pid}`;
  // The user that runs a database enters it.
  mkdirSync(join(IN_MEMORY, name), { mode: 0o711 });
  process.env.TMPDIR = join(IN_MEMORY, name);
  return () => {
    delete process.env.TMPDIR;
    remove(name);
  };
}

const remove = (name: string): void => rmSync(join(IN_MEMORY, name), { recursive: true, force: true });

/** Another user may own it. */
function removeLeft(name: string): void {
  try {
    remove(name);
  } catch {}
}

/** Returns whether programs can run from there, and there is enough memory. */
function hasRoom(): boolean {
  try {
    const mount = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .findLast(([, path]) => path === IN_MEMORY);
    if (!mount || mount[3]!.split(',').includes('noexec')) return false;
    const { bavail, bsize } = statfsSync(IN_MEMORY);
    return bavail * bsize > NEEDED_BYTES && freemem() > NEEDED_BYTES;
  } catch {
    return false;
  }
}

/** Returns whether a directory is of a run that was killed. */
function isLeft(name: string): boolean {
  if (!name.startsWith(PREFIX)) return false;
  try {
    process.kill(Number(name.slice(PREFIX.length)), 0);
    return false;
  } catch (error) {
    // A run of another user is alive, too.
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
