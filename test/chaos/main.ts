import { spawn, spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FAULTS } from './faults/index.ts';
import { readOptions, USAGE, VARIABLE } from './options.ts';
import { BUGS } from './planted/bugs.ts';

const CONFIG = fileURLToPath(new URL('vitest.config.ts', import.meta.url));
const VITEST = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url));

/** Runs chaos as a test run: servers and roles end with it. */
function main(): void {
  let options: ReturnType<typeof readOptions>;
  try {
    options = readOptions(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    process.exitCode = 2;
    return;
  }
  if (options.list) {
    for (const { name, title } of FAULTS) process.stdout.write(`${name.padEnd(24)} ${title}\n`);
    process.stdout.write('\nBugs for --planted\n');
    for (const { name, title } of BUGS) process.stdout.write(`${name.padEnd(24)} ${title}\n`);
    return;
  }
  const given = { ...options, report: resolve(options.report) };
  const vitest = [process.execPath, VITEST, 'run', '--config', CONFIG];
  const [command, ...args] = (hasOwnMounts() ? ['unshare', '--mount', ...vitest] : vitest) as [string];
  const child = spawn(command, args, {
    stdio: 'inherit',
    env: { ...process.env, [VARIABLE]: JSON.stringify(given) },
  });
  // Ctrl-C at a terminal reaches the run too, which ends its servers.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}

/** Disks that the run mounts are then gone when it ends, however it ends. */
const hasOwnMounts = (): boolean =>
  process.getuid?.() === 0 && spawnSync('unshare', ['--mount', 'true']).status === 0;

main();
