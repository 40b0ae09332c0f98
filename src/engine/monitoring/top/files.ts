import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { FeedctlError, messageOf } from '../../model/errors.ts';

/** Place of what `top` remembers between two runs. */
const stateFile = (env: NodeJS.ProcessEnv): string =>
  join(env.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'feedctl', 'top.json');

/** Returns the pane that was shown last. A file that cannot be read remembers nothing. */
export async function lastPane(env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  try {
    const { pane } = JSON.parse(await readFile(stateFile(env), 'utf8'));
    return typeof pane === 'string' ? pane : undefined;
  } catch {
    return undefined;
  }
}

/** Remembers the pane. A file system that is read-only is no reason to fail. */
export async function rememberPane(pane: string, env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const path = stateFile(env);
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, `${JSON.stringify({ pane })}\n`);
  } catch {}
}

/** Writes a new file into the working directory. Returns its path. Throws FILE_UNWRITABLE. */
export async function saveExport(name: string, text: string): Promise<string> {
  const path = resolve(name);
  try {
    const file = await open(path, 'wx');
    await file.writeFile(text).finally(() => file.close());
    return path;
  } catch (error) {
    throw new FeedctlError('FILE_UNWRITABLE', `cannot write ${path}: ${messageOf(error)}`, { cause: error });
  }
}
