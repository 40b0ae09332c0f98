import { execFileSync, spawnSync } from 'node:child_process';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from './cli.ts';

/** The last version before the schema of this one. Set it to the released commit with each new migration. */
const COMMIT = 'b03fca3';
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const inHistory = spawnSync('git', ['-C', ROOT, 'cat-file', '-e', `${COMMIT}^{commit}`]).status === 0;

/** Why the previous release cannot be built here. undefined: it can. */
export const previousReleaseMissing = inHistory
  ? undefined
  : `the history of this checkout lacks the commit ${COMMIT}`;

/** Builds the previous release, with the installed packages. Returns the path of its `bin/run.js`. */
export async function buildPreviousRelease(): Promise<string> {
  const directory = await temporaryDirectory();
  const files = execFileSync('git', ['-C', ROOT, 'archive', COMMIT], { maxBuffer: 2 ** 30 });
  execFileSync('tar', ['-x', '-C', directory], { input: files });
  await symlink(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  const options = { cwd: directory, stdio: 'pipe' } as const;
  const { PATH } = process.env;
  const env = { ...process.env, PATH: `${join(ROOT, 'node_modules/.bin')}:${PATH}` };
  execFileSync('npm', ['run', 'build', '--silent'], { ...options, env });
  return join(directory, 'bin/run.js');
}
