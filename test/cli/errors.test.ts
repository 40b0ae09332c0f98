import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import { ERRORS, type ErrorCode } from '../../src/engine/model/errors.ts';
import {
  type Counts,
  counts,
  emptyDatabase,
  feedctl,
  json,
  sql,
  temporaryDirectory,
  type UpCluster,
  up,
} from '../support/cli.ts';

let cluster: UpCluster;
let before: Counts;
let directory: string;

beforeAll(async () => {
  directory = await temporaryDirectory();
  const file = (name: string, content: string | Buffer) => writeFile(join(directory, name), content);
  const pairs = Array.from({ length: 5_000 }, (_, i) => `${i + 1} ${i + 2}`).join('\n');
  const whole = gzipSync(pairs);
  await file('a-file', '');
  await file('short.gz', whole.subarray(0, whole.length >> 1));
  await file('empty.gz', '');
  await file('bad.edgelist', '# a comment\n101 102\n\n103 x\n');
  await file('bad-number.edgelist', '101 102\n103 -104\n');
  await file('bad.activity', '1 2 1341100972 MT\n1 2 1341100973 RT\n2 1 yesterday RT\n');
  await file('unknown.activity', '1 2 1341100972 MT\n77 2 1341100973 RT\n');
  cluster = await up(join(directory, 'cluster'));
  for (const id of ['1', '2']) await json(['user', 'create', '--id', id, ...cluster.at]);
  before = await counts(cluster.databaseUrl);
});

interface Case {
  readonly name: string;
  readonly code: ErrorCode;
  /** `@` stands for the flags that name the cluster, `~` at the start for the test's directory. */
  readonly args: string;
  /** Arguments that hold spaces or nothing: they follow `args`. */
  readonly more?: readonly string[];
  readonly says?: RegExp;
  readonly env?: () => Record<string, string>;
}

const refused = 'postgres://feedctl@127.0.0.1:1/feedctl';
const CASES: Case[] = [
  { name: 'an unknown user', code: 'USER_NOT_FOUND', args: 'user show 99 @', says: /99/ },
  { name: 'the feed of an unknown user', code: 'USER_NOT_FOUND', args: 'feed show 99 @' },
  { name: 'watching an unknown user', code: 'USER_NOT_FOUND', args: 'feed watch 99 @' },
  { name: 'a token of an unknown user', code: 'USER_NOT_FOUND', args: 'user token 99 @' },
  { name: 'verifying an unknown user', code: 'USER_NOT_FOUND', args: 'feed verify 99 @' },
  { name: 'explaining for an unknown user', code: 'USER_NOT_FOUND', args: 'feed explain 99 1 @' },
  { name: 'explaining an unknown post', code: 'POST_NOT_FOUND', args: 'feed explain 1 99 @' },
  { name: 'rebuilding an unknown user', code: 'USER_NOT_FOUND', args: 'feed rebuild 99 @' },
  { name: 'a post by an unknown user', code: 'USER_NOT_FOUND', args: 'post create 99 hello @' },
  { name: 'following an unknown user', code: 'USER_NOT_FOUND', args: 'follow create 1 99 @' },
  { name: 'a user who is there already', code: 'USER_EXISTS', args: 'user create --id 1 @' },
  { name: 'an unknown post', code: 'POST_NOT_FOUND', args: 'post delete 99 --yes @' },
  { name: 'a second cluster', code: 'CLUSTER_ALREADY_RUNNING', args: 'up --port 0 @' },
  { name: 'a data directory that is a file', code: 'DATA_DIR_UNUSABLE', args: 'up --data-dir ~/a-file' },
  { name: 'a file in the way', code: 'DATA_DIR_UNUSABLE', args: 'up --data-dir ~/a-file/below/it' },
  { name: 'a place nobody can write to', code: 'DATA_DIR_UNUSABLE', args: 'up --data-dir /proc/feeds/here' },
  { name: 'no file', code: 'FILE_NOT_FOUND', args: 'seed graph ~/nothing @' },
  { name: 'no activity file', code: 'FILE_NOT_FOUND', args: 'replay ~/nothing @' },
  { name: 'a directory as a file', code: 'FILE_UNREADABLE', args: 'replay ~ @' },
  { name: 'truncated gzip', code: 'FILE_TRUNCATED', args: 'seed graph ~/short.gz @', says: /short\.gz/ },
  { name: 'empty gzip', code: 'FILE_TRUNCATED', args: 'replay ~/empty.gz @' },
  { name: 'a bad line', code: 'BAD_LINE', args: 'seed graph ~/bad.edgelist @', says: /line 4\b.*x/ },
  { name: 'a negative id', code: 'BAD_LINE', args: 'seed graph ~/bad-number.edgelist @', says: /line 2\b/ },
  { name: 'a bad activity', code: 'BAD_LINE', args: 'replay ~/bad.activity @', says: /line 3\b.*yesterday/ },
  {
    name: 'an unknown actor',
    code: 'USER_NOT_FOUND',
    args: 'replay ~/unknown.activity @',
    says: /line 2\b.*77/,
  },
  { name: 'an id below 0', code: 'INVALID_ID', args: 'user show -5 @', says: /-5/ },
  { name: 'a followee below 0', code: 'INVALID_ID', args: 'follow create 1 -5 @', says: /-5/ },
  { name: 'an id of 20 digits', code: 'INVALID_ID', args: 'feed show 12345678901234567890 @' },
  { name: 'an id past 53 bits', code: 'INVALID_ID', args: 'feed show 9007199254740992 @' },
  { name: 'id 0', code: 'INVALID_ID', args: 'post create 0 hello @' },
  { name: 'a word as an id', code: 'INVALID_ID', args: 'user create --id Ada @', says: /Ada/ },
  { name: 'a word as a cursor', code: 'INVALID_ID', args: 'feed show 1 --cursor zzz @' },
  { name: 'an empty post', code: 'POST_EMPTY', args: 'post create 1 @', more: [''] },
  { name: 'a post of spaces', code: 'POST_EMPTY', args: 'post create 1 @', more: [' \n '] },
  {
    name: 'a post over 5,000 characters',
    code: 'POST_TOO_LONG',
    args: 'post create 1 @',
    more: ['🦊'.repeat(5_001)],
    says: /5001/,
  },
  { name: 'following oneself', code: 'SELF_FOLLOW', args: 'follow create 1 1 @' },
  {
    name: 'a refused connection',
    code: 'DATABASE_UNREACHABLE',
    args: `user show 1 --database-url ${refused}`,
  },
  {
    name: 'an unknown database',
    code: 'DATABASE_NOT_FOUND',
    args: 'user show 1',
    env: () => ({ FEEDCTL_DATABASE_URL: inject('serverUrl').replace('/feedctl?', '/not_there?') }),
    says: /not_there/,
  },
  {
    name: 'a level of logs that there is not',
    code: 'CONFIG_INVALID',
    args: 'up --port 0 --data-dir ~/never',
    says: /FEEDCTL_LOG_LEVEL.*verbose/,
    env: () => ({ FEEDCTL_LOG_LEVEL: 'verbose' }),
  },
  { name: 'an unreadable URL', code: 'CONFIG_INVALID', args: 'user show 1 --database-url postgres://a@[b/c' },
  { name: 'a URL of another kind', code: 'CONFIG_INVALID', args: 'user show 1 --database-url mysql://a/b' },
  {
    name: 'an unreachable gateway',
    code: 'GATEWAY_UNREACHABLE',
    args: 'feed watch 1 @ --gateway-url http://127.0.0.1:1',
  },
  {
    name: 'no such address',
    code: 'CONFIG_INVALID',
    args: 'gateway start --host no-such-host.invalid --port 0 @',
  },
  { name: 'no cluster', code: 'CLUSTER_NOT_RUNNING', args: 'user show 1 --data-dir ~/nowhere' },
  { name: 'an unknown command', code: 'COMMAND_NOT_FOUND', args: 'usr show 1', says: /usr show 1/ },
  { name: 'an unknown command of a topic', code: 'COMMAND_NOT_FOUND', args: 'user sho' },
  {
    name: 'an argument of a command that takes none',
    code: 'USAGE',
    args: 'queue list 1',
    says: /queue list.*1/,
  },
  { name: 'an unknown flag', code: 'USAGE', args: 'user show 1 --nope @', says: /^.*--nope.*$/m },
  { name: 'a missing argument', code: 'USAGE', args: 'user show @', says: /user/ },
  { name: 'a missing second argument', code: 'USAGE', args: 'follow create 1 @', says: /FOLLOWEE/ },
  { name: 'one argument too many', code: 'USAGE', args: 'user show 1 2 @' },
  { name: 'a flag out of range', code: 'USAGE', args: 'feed show 1 --limit 0 @', says: /--limit/ },
  { name: 'a port that is none', code: 'USAGE', args: 'up --port 70000 --data-dir ~/other' },
  { name: 'verifying without a user', code: 'USAGE', args: 'feed verify @', says: /--all/ },
  { name: 'verifying a user and all', code: 'USAGE', args: 'feed verify 1 --all @' },
  { name: 'rebuilding without a user', code: 'USAGE', args: 'feed rebuild @', says: /--all/ },
  { name: 'up on a database of somebody else', code: 'USAGE', args: `up --database-url ${refused}` },
  {
    name: 'a password in a flag',
    code: 'SECRET_IN_FLAG',
    args: 'user show 1 --database-url postgres://a:hunter2@h/d',
  },
  {
    name: 'a password in the query of a flag',
    code: 'SECRET_IN_FLAG',
    args: 'user show 1 --database-url postgres://a@h/d?password=hunter2',
  },
  {
    name: 'a password in the environment, on a server that is not there',
    code: 'DATABASE_UNREACHABLE',
    args: 'user show 1',
    env: () => ({ FEEDCTL_DATABASE_URL: 'postgres://feedctl:hunter2@127.0.0.1:1/feedctl' }),
  },
  { name: 'an unknown context', code: 'CONTEXT_NOT_FOUND', args: 'user show 1 --context nope', says: /nope/ },
  {
    name: 'a deletion nobody confirms',
    code: 'CONFIRMATION_REQUIRED',
    args: 'post delete 1 @',
    says: /--yes|ask/,
  },
];

const line = (args: string): string[] =>
  args
    .split(' ')
    .flatMap((arg) => (arg === '@' ? cluster.at : [arg.startsWith('~') ? directory + arg.slice(1) : arg]));

async function expectError(
  code: ErrorCode,
  args: readonly string[],
  options: { env?: Record<string, string>; says?: RegExp } = {},
): Promise<void> {
  const env = options.env ?? {};
  const [text, asJson] = await Promise.all([feedctl(args, { env }), feedctl([...args, '--json'], { env })]);
  expect([text.status, asJson.status], text.stderr).toEqual([ERRORS[code].exit, ERRORS[code].exit]);
  expect(text.stdout).toBe('');
  expect(text.stderr).toMatch(new RegExp(`^Error: .*\\(${code}\\)$`, 'm'));
  const { error } = JSON.parse(asJson.stdout) as {
    error: { code: string; message: string; suggestions: string[] };
  };
  expect(error.code).toBe(code);
  if (options.says) expect(error.message).toMatch(options.says);
  // How far a file was read that breaks off is not the same twice.
  const shape = (said: string) => said.replaceAll(/after line \d+/g, 'after line n');
  expect(shape(text.stderr)).toContain(shape(error.message));
  if (code === 'USAGE') expect(error.suggestions.join()).toMatch(/`feedctl .*`/);
  for (const suggestion of error.suggestions) expect(text.stderr).toContain(`Try: ${suggestion}`);
  const printed = text.stderr + asJson.stderr + asJson.stdout;
  expect(printed).not.toContain('hunter2');
  // Neither a stack nor the parser's innards; and text for a pipe has no colours.
  expect(printed).not.toMatch(/^\s+at |parserContext|oclif/m);
  expect(printed).not.toContain('\u001b');
}

describe('an error is clear, has a stable code and changes nothing', () => {
  test.for(CASES)('$name: $code', async ({ code, args, more = [], says, env }) => {
    await expectError(code, [...line(args), ...more], { ...(says && { says }), ...(env && { env: env() }) });
    expect(await counts(cluster.databaseUrl)).toEqual(before);
  });
});

test('a port that is taken: PORT_TAKEN, and nothing is left running', async () => {
  const { port } = new URL(cluster.gatewayUrl);
  const at = ['--data-dir', join(directory, 'second')];
  const first = await feedctl(['up', '--port', port, ...at]);
  expect(first.status).toBe(1);
  expect(first.stderr).toMatch(/\(PORT_TAKEN\)/);
  // The directory is free again: the same error, not CLUSTER_ALREADY_RUNNING.
  const second = await feedctl(['up', '--port', port, ...at, '--json']);
  expect(JSON.parse(second.stdout)).toMatchObject({ error: { code: 'PORT_TAKEN' } });
  expect(await json(['down', ...at])).toMatchObject({ stopped: false });
  // The port is checked before the database is made.
  expect(existsSync(join(directory, 'second'))).toBe(false);
});

test('a database without a schema, and one of a newer version', async () => {
  const url = await emptyDatabase('cli_schema');
  const env = { FEEDCTL_DATABASE_URL: url };
  await expectError('SCHEMA_MISSING', ['user', 'show', '1'], { env, says: /migration/ });
  await expectError('SCHEMA_MISSING', ['worker', 'start'], { env });
  await json(['migrate'], { env });
  await sql(url, `insert into schema_migrations (name, run_on) values ('9999_future', now())`);
  await sql(url, `insert into settings (name, value) values ('schema.breaking', '["9999_future"]')`);
  for (const args of [['user', 'show', '1'], ['migrate'], ['worker', 'start'], ['status']])
    await expectError('SCHEMA_NEWER', args, { env, says: /9999_future/ });
});

test('no command at all, with --json: one JSON value', async () => {
  const { stdout, status } = await feedctl(['--json']);
  expect([status, JSON.parse(stdout).error.code]).toEqual([2, 'USAGE']);
});
