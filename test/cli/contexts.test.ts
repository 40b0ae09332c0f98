import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { counts, emptyDatabase, feedctl, json, temporaryDirectory } from '../support/cli.ts';

let databaseUrl: string;
let directory: string;
let at: { env: Record<string, string> };

interface Shown {
  name: string;
  current: boolean;
  production: boolean;
  settings: Record<string, unknown>;
}

const path = () => join(directory, 'feedctl', 'contexts.json');
const refused = async (...args: string[]) => {
  const outcome = await feedctl([...args, '--json'], at);
  const { error } = JSON.parse(outcome.stdout) as {
    error: { code: string; message: string; suggestions: string[] };
  };
  return { ...error, status: outcome.status };
};

beforeAll(async () => {
  databaseUrl = await emptyDatabase('cli_contexts');
  directory = await temporaryDirectory();
  at = { env: { XDG_CONFIG_HOME: directory, FEEDS_URL: databaseUrl } };
  await json(['migrate'], { env: { FEEDCTL_DATABASE_URL: databaseUrl } });
});

test('without a file there is the built-in context', async () => {
  expect(await json(['context', 'list'], at)).toEqual({
    contexts: [{ name: 'local', current: true, production: false, settings: {} }],
  });
  expect(await json(['context', 'show'], at)).toMatchObject({ name: 'local', settings: {} });
  expect(await refused('context', 'remove', 'local', '--yes')).toMatchObject({
    code: 'CONTEXT_NOT_FOUND',
    status: 2,
  });
  expect((await feedctl(['context', 'show'], at)).stdout).toContain('embedded');
});

test('a context is added, used, shown and removed; the file is whole and its owner’s alone', async () => {
  const add = ['context', 'add', 'staging', '--database-url-env', 'FEEDS_URL'];
  expect(await json([...add, '--dry-run'], at)).toMatchObject({ name: 'staging', dryRun: true });
  await expect(stat(path())).rejects.toThrow();
  const added = await json<Shown>([...add, '--gateway-url', 'http://127.0.0.1:1', '--use'], at);
  expect(added).toMatchObject({ name: 'staging', current: true, production: false });
  expect(added.settings).toEqual({
    gatewayUrl: 'http://127.0.0.1:1',
    databaseUrlFrom: { env: 'FEEDS_URL' },
  });
  expect((await stat(path())).mode & 0o777).toBe(0o600);
  expect(await readdir(join(directory, 'feedctl'))).toEqual(['contexts.json']);
  expect(await readFile(path(), 'utf8')).not.toContain(databaseUrl);
  expect(await refused(...add)).toMatchObject({ code: 'CONTEXT_EXISTS', status: 1 });
  expect(await json([...add, '--replace', '--use'], at)).toMatchObject({ current: true });

  // Commands use it from now on, unless a flag names another one.
  expect(await json(['user', 'create', '--id', '7'], at)).toMatchObject({ id: 7 });
  expect(await json(['user', 'show', '7', '--context', 'staging'], at)).toMatchObject({ id: 7 });
  const local = await refused('user', 'show', '7', '--context', 'local', '--data-dir', directory);
  expect(local.code).toBe('CLUSTER_NOT_RUNNING');

  const listed = await feedctl(['context', 'list'], at);
  expect(listed.stdout).toMatch(/^\* +staging +no +\$FEEDS_URL$/m);
  await json(['context', 'use', 'local'], at);
  expect(await json(['context', 'show', 'staging'], at)).toMatchObject({ current: false });
  await json(['context', 'use', 'staging'], at);
  expect(await refused('context', 'remove', 'staging')).toMatchObject({ code: 'CONFIRMATION_REQUIRED' });
  await json(['context', 'remove', 'staging', '--dry-run'], at);
  await json(['context', 'remove', 'staging', '--yes'], at);
  expect(await json(['context', 'list'], at)).toMatchObject({ contexts: [{ name: 'local', current: true }] });
  expect(await refused('context', 'use', 'staging')).toMatchObject({ code: 'CONTEXT_NOT_FOUND', status: 2 });
});

test('a secret comes from a file or a command, and is never shown', async () => {
  const secret = join(directory, 'url');
  await writeFile(secret, `${databaseUrl}\n`);
  for (const [flag, value] of [
    ['--database-url-file', secret],
    ['--database-url-command', `cat ${secret}`],
  ] as const) {
    await json(['context', 'add', 'by', flag, value, '--replace'], at);
    expect(await json(['user', 'show', '7', '--context', 'by'], at)).toMatchObject({ id: 7 });
  }
  for (const command of ['echo hunter2; exit 3', 'true']) {
    await json(['context', 'add', 'by', '--database-url-command', command, '--replace'], at);
    const failed = await refused('user', 'show', '7', '--context', 'by');
    expect(failed).toMatchObject({ code: 'CONFIG_INVALID', status: 2 });
    expect(failed.message).toMatch(/ended with 3|holds nothing/);
  }
  // The command of a secret does not run for an overridden value.
  const other = { env: { ...at.env, FEEDCTL_DATABASE_URL: databaseUrl } };
  expect(await json(['user', 'show', '7', '--context', 'by'], other)).toMatchObject({ id: 7 });
  // A file that was edited by hand may hold passwords.
  const clear = { contexts: { clear: { databaseUrl: 'postgres://feeds:hunter2@db.example/feeds' } } };
  await writeFile(path(), JSON.stringify(clear));
  for (const args of [
    ['context', 'show', 'clear'],
    ['context', 'list'],
    ['context', 'list', '--json'],
  ]) {
    const outcome = await feedctl(args, at);
    expect(outcome.status).toBe(0);
    expect(outcome.stdout + outcome.stderr).not.toContain('hunter2');
    expect(outcome.stdout).toContain('postgres://feeds:***@db.example/feeds');
  }
});

test('what is no context is refused, and the file is left as it is', async () => {
  const before = await readFile(path(), 'utf8');
  const url = ['--database-url', 'postgres://feeds@db.example/feeds'];
  const wrong: [string, string[]][] = [
    ['USAGE', ['a/b', ...url]],
    ['USAGE', ['x', ...url, '--database-url-env', 'FEEDS_URL']],
    ['SECRET_IN_FLAG', ['x', '--database-url', 'postgres://feeds:hunter2@db.example/feeds']],
    ['CONFIG_INVALID', ['x', '--database-url', 'mysql://db.example/feeds']],
  ];
  for (const [code, args] of wrong)
    expect(await refused('context', 'add', ...args), args.join(' ')).toMatchObject({ code, status: 2 });
  expect(await readFile(path(), 'utf8')).toBe(before);
  await writeFile(path(), '{"contexts":{"odd":{"databaseUrl":"postgres://a/b","typo":1}}}');
  const odd = await refused('user', 'show', '7', '--context', 'odd');
  expect(odd).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('typo') });
  await writeFile(path(), '{');
  expect(await refused('context', 'list')).toMatchObject({ code: 'CONFIG_INVALID' });
});

test('a production cluster wants its name before any change, and --yes is not enough', async () => {
  await writeFile(path(), '{"contexts":{}}');
  await json(['context', 'add', 'prod', '--production', '--database-url-env', 'FEEDS_URL', '--use'], at);
  const before = await counts(databaseUrl);
  for (const args of [
    ['user', 'create', '--id', '8'],
    ['feed', 'rebuild', '--all'],
    ['feed', 'verify', '7', '--repair'],
    ['gateway', 'rotate-key', '--yes'],
    ['user', 'create', '--id', '8', '--context-name', 'staging'],
    ['context', 'remove', 'prod', '--yes'],
  ]) {
    const no = await refused(...args);
    expect(no, args.join(' ')).toMatchObject({ code: 'CONFIRMATION_REQUIRED', status: 2 });
    expect(no.suggestions).toEqual(['Pass --context-name prod to confirm without being asked.']);
  }
  expect(await counts(databaseUrl)).toEqual(before);
  // Reads and plans need no confirmation.
  await json(['user', 'show', '7'], at);
  await json(['feed', 'verify', '--all'], at);
  await json(['feed', 'rebuild', '--all', '--dry-run'], at);
  expect(await json(['user', 'create', '--id', '8', '--context-name', 'prod'], at)).toMatchObject({ id: 8 });
  await json(['context', 'remove', 'prod', '--yes', '--context-name', 'prod'], at);
});

test.skipIf(process.platform !== 'linux')('a terminal of 60 columns is not written past', async () => {
  const url = 'postgres://feeds@database.staging.example/feeds';
  const env = { XDG_CONFIG_HOME: await temporaryDirectory(), NO_COLOR: '1' };
  await json(['context', 'add', 'narrow', '--database-url', url], { env });
  const terminal = (columns: number, ...args: string[]) =>
    feedctl(args, {
      env: { ...env, NODE: process.execPath, COLUMNS_OF_IT: String(columns) },
      executable: 'sh',
      node: ['-c', 'exec script -qec "stty cols $COLUMNS_OF_IT && \\"$NODE\\" \\"$0\\" $*" /dev/null'],
    });
  const lines = ({ stdout }: { stdout: string }) => stdout.trimEnd().split('\r\n');
  expect(lines(await terminal(120, 'context', 'list'))[0]).toMatch(/^┌/);
  const narrow = lines(await terminal(60, 'context', 'list'));
  expect(Math.max(...narrow.map((line) => line.length))).toBeLessThanOrEqual(60);
  expect(narrow.join('\n')).toMatch(/narrow +no +database\.staging\.example\/feeds$/m);
  expect(lines(await terminal(60, 'context', 'list', '-o', 'wide')).join('\n')).toContain(url);
  const refusal = await terminal(60, 'context', 'list', '--nonsense');
  expect(refusal).toMatchObject({ status: 2, stdout: expect.not.stringContaining('\u001b') });
});
