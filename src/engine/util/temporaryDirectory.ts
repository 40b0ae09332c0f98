import { chmod, lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRunning } from './process.ts';

/** Creates a directory for this process in the system's temporary directory, with a random name. */
export async function temporaryDirectory(kind: 'demo' | 'run'): Promise<string> {
  await removeLeftBehind(kind);
  const directory = await mkdtemp(join(tmpdir(), `feedctl-${kind}-${process.pid}-`));
  // For root, the database runs as another user, who has to be able to enter.
  await chmod(directory, 0o711);
  return directory;
}

/**
 * Removes directories of killed processes: only those of this user, and none of a running process.
 */
async function removeLeftBehind(kind: string): Promise<void> {
  const name = new RegExp(`^feedctl-${kind}-(\\d+)-[^/]+$`);
  for (const entry of await readdir(tmpdir()).catch(() => [])) {
    const pid = Number(name.exec(entry)?.[1]);
    if (!pid || isRunning(pid)) continue;
    const path = join(tmpdir(), entry);
    const found = await lstat(path).catch(() => undefined);
    if (!found?.isDirectory() || found.uid !== process.getuid?.()) continue;
    await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}
