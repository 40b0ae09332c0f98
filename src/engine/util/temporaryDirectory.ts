import { chmod, lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A directory of this process's own in the system's place for them, by a name that nobody can guess. */
export async function temporaryDirectory(kind: 'demo' | 'run'): Promise<string> {
  await removeLeftBehind(kind);
  const directory = await mkdtemp(join(tmpdir(), `feedctl-${kind}-${process.pid}-`));
  // As root the database runs as another user, who has to be able to enter.
  await chmod(directory, 0o711);
  return directory;
}

/** What processes that were killed have left there. Only directories of this very user, and none that are in use. */
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

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
