import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  BINARY,
  counts,
  feedctl,
  json,
  start,
  temporaryDirectory,
  type UpCluster,
  up,
  waitUntil,
} from '../support/cli.ts';

let cluster: UpCluster;
let graph: string;
let activity: string;
let post: number;

beforeAll(async () => {
  const directory = await temporaryDirectory();
  graph = join(directory, 'graph.txt');
  activity = join(directory, 'activity.txt');
  await writeFile(graph, '# follower followee\n1 2\n3 2\n4 4\n');
  await writeFile(activity, '2 1 1341100972 MT\n1 2 1341100973 RT\n');
  cluster = await up(join(directory, 'cluster'));
  await json(['seed', 'graph', graph, ...cluster.at]);
  ({ id: post } = await json<{ id: number }>(['post', 'create', '2', 'hello', ...cluster.at]));
  await waitUntil(async () => {
    const page = await json<{ items: unknown[] }>(['feed', 'show', '1', ...cluster.at]);
    return page.items.length === 1;
  });
});

test.skipIf(!existsSync('/dev/full'))(
  'output that cannot be written is an error without a stack trace',
  async () => {
    for (const args of [
      ['feed', 'verify', '--all'],
      ['status', '--json'],
    ]) {
      const command = ['-c', '"$@" > /dev/full', 'sh', process.execPath, BINARY, ...args, ...cluster.at];
      const { status, stderr } = spawnSync('sh', command, { encoding: 'utf8' });
      expect(status, args.join(' ')).toBe(1);
      expect(stderr).toMatch(
        /^Error: cannot write the output: no space left on device \(OUTPUT_FAILED\)\n {2}Try: /,
      );
      expect(stderr.trim().split('\n')).toHaveLength(2);
    }
  },
);

/** Every command that ends by itself and changes nothing. */
const reads = (): string[][] => [
  ['status'],
  ['migrate'],
  ['user', 'show', '1'],
  ['user', 'token', '1'],
  ['feed', 'show', '1'],
  ['feed', 'show', '4'],
  ['feed', 'explain', '1', String(post)],
  ['feed', 'verify', '1'],
  ['feed', 'verify', '--all'],
];

/** Every command that changes something, as it would be run. */
const changes = (): string[][] => [
  ['user', 'create', 'Ada', '--id', '50'],
  ['post', 'create', '1', 'hello'],
  ['post', 'delete', String(post)],
  ['follow', 'create', '4', '1'],
  ['follow', 'delete', '1', '2'],
  ['feed', 'rebuild', '1'],
  ['feed', 'rebuild', '--all'],
  ['seed', 'graph', graph, '--celebrity-threshold', '1'],
  ['replay', activity],
  ['migrate'],
];

test('--json prints exactly one JSON value, and text has no colours in a pipe', async () => {
  for (const command of reads()) {
    const name = command.join(' ');
    const asJson = await feedctl([...command, ...cluster.at, '--json']);
    expect(asJson.status, name).toBe(0);
    expect(JSON.parse(asJson.stdout), name).toBeTypeOf('object');
    expect(asJson.stderr, name).toBe('');
    const text = await feedctl([...command, ...cluster.at], { env: { NO_COLOR: '1' } });
    expect(text.status, name).toBe(0);
    expect(text.stdout, name).not.toBe('');
    expect(text.stdout + text.stderr, name).not.toContain('\u001b');
  }
});

test('the same result as YAML, as CSV, as ids, and in columns', async () => {
  const { users } = await json<{ users: { id: number; followerCount: number }[] }>([
    'user',
    'list',
    ...cluster.at,
  ]);
  const list = (...args: string[]) => feedctl([...args, 'user', 'list', ...cluster.at]);
  expect(parse((await list('-o', 'yaml')).stdout).users).toEqual(users);
  const csv = (await list('--output=csv')).stdout.split('\r\n');
  expect(csv[0]).toBe('user,name,followers,push state');
  expect(csv[1]).toBe(`${users[0]!.id},,${users[0]!.followerCount},push`);
  expect(csv).toHaveLength(users.length + 2);
  const ids = `${users.map(({ id }) => id).join('\n')}\n`;
  expect((await list('-o', 'name')).stdout).toBe(ids);
  expect(await list('--quiet')).toMatchObject({ stdout: ids, stderr: '' });
  const { stdout } = await feedctl([
    'user',
    'list',
    '--columns',
    'followers,user',
    '--no-headers',
    ...cluster.at,
  ]);
  expect(stdout.trim().split('\n')[0]).toMatch(/^\d+ +1$/);
  const unknown = await feedctl(['user', 'list', '--columns', 'x', '-o', 'csv', ...cluster.at]);
  expect(unknown).toMatchObject({ stdout: '', status: 2 });
  const failed = await feedctl(['user', 'show', '99', '-o', 'yaml', ...cluster.at]);
  expect(parse(failed.stdout).error.code).toBe('USER_NOT_FOUND');
});

test('--watch repeats a view: a line of JSON each, or text below text, until Ctrl-C', async () => {
  const watch = (...args: string[]) => start([...args, '--watch', '--interval', '200ms', ...cluster.at]);
  const asJson = watch('status', '--json');
  await asJson.printed(/\n.*\n.*\n/);
  asJson.child.kill('SIGINT');
  const { stdout, stderr, status } = await asJson.ended;
  expect([status, stderr]).toEqual([0, '']);
  for (const line of stdout.trim().split('\n')) expect(JSON.parse(line)).toMatchObject({ ready: true });
  const text = watch('user', 'list', '-o', 'csv');
  await text.printed(/user,name[\s\S]*user,name/);
  text.child.kill('SIGINT');
  expect(await text.ended).toMatchObject({ status: 0 });
});

test('versions and errors, without a cluster', async () => {
  expect(await json(['version'])).toMatchObject({ version: expect.any(String), node: expect.any(String) });
  expect((await feedctl(['-v'])).stdout).toMatch(/^feedctl\/\d/);
  const { stdout } = await feedctl(['errors', 'user-not-found']);
  expect(stdout).toMatch(/^USER_NOT_FOUND, exit status 1\n[\s\S]*Why: [\s\S]*Fix: /);
  expect(stdout).not.toContain('](');
  const unknown = await feedctl(['errors', 'USER_NOT_FUND']);
  expect(unknown.stderr).toContain('did you mean USER_NOT_FOUND?');
  expect((await feedctl(['feed', 'verify', '-h'])).stdout).toContain('feedctl feed verify [USER]');
});

test('--dry-run says what would be done, and changes nothing', async () => {
  const before = await counts(cluster.databaseUrl);
  for (const command of changes()) {
    const name = command.join(' ');
    const outcome = await feedctl([...command, '--dry-run', ...cluster.at, '--json']);
    expect(outcome.status, name + outcome.stdout).toBe(0);
    expect(JSON.parse(outcome.stdout), name).toBeTypeOf('object');
    const text = await feedctl([...command, '--dry-run', ...cluster.at]);
    expect(text.stdout, name).toMatch(/^Would|^Up to date/);
    expect(await counts(cluster.databaseUrl), name).toEqual(before);
  }
});

test('colours follow NO_COLOR and FORCE_COLOR', async () => {
  const wrong = ['user', 'show', '0'];
  const forced = await feedctl(wrong, { env: { FORCE_COLOR: '1' } });
  expect(forced.stderr).toContain('\u001b');
  const none = await feedctl(wrong, { env: { NO_COLOR: '1' } });
  expect(none.stderr).not.toContain('\u001b');
});

test('a reader that goes away early does no harm', async () => {
  // More than a pipe holds: the rest meets a closed one.
  const { token } = await json<{ token: string }>(['user', 'token', '2', ...cluster.at]);
  for (let i = 0; i < 40; i += 1) {
    const created = await fetch(`${cluster.gatewayUrl}/post/create`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ text: 'x'.repeat(5_000) }),
    });
    expect(created.status).toBe(201);
  }
  const binary = join(import.meta.dirname, '../../bin/run.js');
  const shell =
    '"$0" "$1" feed show 2 --limit 100 --data-dir "$2" --json | head -n 1; ' +
    `echo "status \${PIPESTATUS[0]}"`;
  const child = spawn('bash', ['-c', shell, process.execPath, binary, cluster.dataDir]);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  await new Promise((done) => child.on('close', done));
  expect(stdout).toBe('{\nstatus 0\n');
  expect(stderr).toBe('');
});

test('pages of a feed join without a gap', async () => {
  interface Page {
    items: { postId: number }[];
    nextCursor: string | null;
  }
  const whole = await json<Page>(['feed', 'show', '1', '--limit', '100', ...cluster.at]);
  const ids: number[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page: Page = await json<Page>([
      'feed',
      'show',
      '1',
      '--limit',
      '15',
      ...(cursor ? ['--cursor', cursor] : []),
      ...cluster.at,
    ]);
    ids.push(...page.items.map((item) => item.postId));
    cursor = page.nextCursor;
  }
  expect(ids).toEqual(whole.items.map((item) => item.postId));
});
