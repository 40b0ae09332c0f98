import { execFile, execFileSync } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { feedctl, json, temporaryDirectory } from '../support/cli.ts';

const BINARY = fileURLToPath(new URL('../../bin/run.js', import.meta.url));
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  const [directory, config] = [await temporaryDirectory(), await temporaryDirectory()];
  const command = join(directory, 'feedctl');
  await writeFile(command, `#!/bin/sh\nexec '${process.execPath}' '${BINARY}' "$@"\n`);
  await chmod(command, 0o755);
  env = {
    PATH: `${directory}${delimiter}${process.env.PATH}`,
    HOME: directory,
    XDG_CONFIG_HOME: config,
  };
  const at = { env: { XDG_CONFIG_HOME: config } };
  for (const name of ['staging', 'stage-two'])
    await json(['context', 'add', name, '--database-url', `postgres://feeds@127.0.0.1:1/${name}`], at);
});

/** What Tab would offer behind each of these lines, by the function that bash has been given. */
async function tab(...lines: string[]): Promise<string[][]> {
  const script = `
    source <(feedctl completion bash)
    [[ "$(complete -p feedctl)" == *"-o default -F _feedctl_complete feedctl" ]] || exit 9
    for line in "$@"; do
      COMP_LINE="$line" COMP_POINT=\${#line}
      _feedctl_complete
      printf '%s ' "\${COMPREPLY[@]}"
      echo
    done`;
  const { stdout } = await promisify(execFile)('bash', ['-c', script, 'bash', ...lines], { env });
  return stdout
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => line.trim().split(' ').filter(Boolean));
}

test('bash completes commands, flags, and the names that there are now', async () => {
  const [commands, queues, use, flag, glued, nodes, files] = await tab(
    'feedctl operation re',
    'feedctl queue purge rows.',
    'feedctl context use st',
    'feedctl status --context s',
    'feedctl status --context=sta',
    // Nobody is at that port: nothing comes of it, and soon.
    'feedctl node drain --context staging ',
    'feedctl replay ',
  );
  expect(commands).toEqual(['resume']);
  expect(queues).toEqual(['rows.bulk', 'rows.live']);
  expect(use).toEqual(['stage-two', 'staging']);
  expect(flag).toEqual(['stage-two', 'staging']);
  expect(glued, 'what stands behind the =').toEqual(['stage-two', 'staging']);
  expect(nodes).toEqual([]);
  expect(files, 'bash offers files').toEqual([]);
}, 60_000);

const there = (shell: string): boolean => {
  try {
    execFileSync(shell, ['-c', 'true']);
    return true;
  } catch {
    return false;
  }
};

test.skipIf(!there('fish'))(
  'fish completes the same, and files where any text is possible',
  async () => {
    const typed = ['feedctl operation re', 'feedctl queue list --wat', 'feedctl replay activity'];
    const completions = typed.map((line) => `complete -C '${line}'`).join('; ');
    const script = `feedctl completion fish | source; ${completions}`;
    await writeFile(join(env.HOME!, 'activity.txt'), '');
    const { stdout } = await promisify(execFile)('fish', ['-c', script], { env, cwd: env.HOME! });
    const lines = stdout.trim().split('\n');
    expect(lines.map((line) => line.split('\t')[0])).toEqual(['resume', '--watch', 'activity.txt']);
    expect(lines[0]).toBe('resume\tContinue an operation that was interrupted or failed');
  },
  60_000,
);

test('a word of two dashes is where flags begin', async () => {
  const { stdout } = await feedctl(['complete', '--', 'queue', 'list', '--']);
  expect(stdout.split('\n')).toContain('--watch');
});

test('each shell has its snippet, and another is refused', async () => {
  for (const shell of ['zsh', 'fish'])
    expect((await feedctl(['completion', shell])).stdout).toContain('feedctl complete --described -- ');
  expect((await feedctl(['completion', 'tcsh'])).status).toBe(2);
});

test('a user of npx completes `npx feedctl`, and nothing of other packages', async () => {
  const { stdout: snippet } = await feedctl(['completion', 'bash'], { env: { npm_command: 'exec' } });
  expect(snippet).toContain('npx --no-install feedctl complete -- ');
  const script = `
    npx() { shift 2; feedctl "$@"; }
    source /dev/stdin <<< "$1"
    for line in 'npx feedctl queue p' 'npx vitest r'; do
      COMP_LINE="$line" COMP_POINT=\${#line}
      _feedctl_complete
      echo "\${COMPREPLY[*]}"
    done`;
  const { stdout } = await promisify(execFile)('bash', ['-c', script, 'bash', snippet], { env });
  expect(stdout).toBe('peek purge\n\n');
});
