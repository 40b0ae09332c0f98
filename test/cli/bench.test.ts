import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { feedctl, json, temporaryDirectory } from '../support/cli.ts';

const positive = expect.toSatisfy((value) => typeof value === 'number' && value > 0);

test('bench push opens sockets at a real gateway and at a bare server, and every frame arrives', async () => {
  const size = ['--sockets', '200', '--runs', '1', '--rate', '100', '--seconds', '2'];
  const result = await json(['bench', 'push', ...size]);
  const one = { framesPerSecond: positive, allMs: positive, cpuMicrosPerFrame: expect.any(Number) };
  expect(result).toMatchObject({
    sockets: 200,
    memory: { bareBytesPerSocket: expect.any(Number), gatewayBytesPerSocket: expect.any(Number) },
    broadcast: {
      frameBytes: positive,
      bare: one,
      celebrity: { ...one, ratio: positive },
      fannedOut: { ...one, ratio: positive },
    },
    latency: { posts: 20, errors: 0, deliveries: 200, missing: 0, ms: { p50: positive, p99: positive } },
  });
  const processes = execFileSync('ps', ['-A', '-ww', '-o', 'ppid=,args='], { encoding: 'utf8' });
  expect(processes, 'nothing is left running').not.toMatch(/bench\/push\/(clients|bareServer)/);
});

test('more sockets than files may be open are refused before anything is started', async () => {
  const command = 'ulimit -n 900 && exec "$@"';
  const args = ['-c', command, 'sh', process.execPath];
  const refused = await feedctl(['bench', 'push', '--sockets', '200', '--json'], {
    executable: '/bin/sh',
    node: args,
  });
  expect(refused.status).toBe(2);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    error: { code: 'USAGE', suggestions: [expect.stringContaining('ulimit -n 1200'), expect.any(String)] },
  });
});

test('bench crowd: every frame that follows and posts promise, in stages', async () => {
  const size = [
    '--users',
    '300',
    '--friends',
    '5-50',
    '--stages',
    '1,40',
    '--seconds',
    '3',
    '--think-ms',
    '500',
  ];
  const result = await json<{ stages: { pushes: number; expected: number }[] }>(['bench', 'crowd', ...size]);
  expect(result).toMatchObject({
    users: 300,
    stages: [
      { people: 1, errors: 0 },
      { people: 40, errors: 0 },
    ],
  });
  for (const { pushes, expected } of result.stages) expect(pushes).toBe(expected);
  expect(result.stages[1]).toMatchObject({ posts: positive, pushes: positive, requestMs: { p99: positive } });
});

test('impossible crowds are refused', async () => {
  for (const flags of [
    ['--stages', '1,x'],
    ['--stages', '0'],
    ['--users', '50', '--stages', '51'],
  ]) {
    const refused = await feedctl(['bench', 'crowd', ...flags, '--json']);
    expect(refused.status, flags.join(' ')).toBe(2);
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'USAGE' } });
  }
});

test('bench fanout --stored: the path beside COPY into the same rows and beside an empty store', async () => {
  const html = join(await temporaryDirectory(), 'report.html');
  const size = ['--posts', '20', '--followers', '50', '--runs', '1', '--baseline', 'none'];
  const result = await json([
    ...['bench', 'fanout', ...size, '--html', html],
    ...['--stored', '6000', '--stored-per-user', '30'],
  ]);
  const perRow = { path: positive, copy: positive, emptyPath: positive, emptyCopy: positive };
  expect(result).toMatchObject({
    deliveries: 1_000,
    stored: {
      rows: 6_000,
      users: 200,
      copyPerSecond: positive,
      emptyDeliveriesPerSecond: positive,
      ratioToCopy: positive,
      ratioToEmpty: positive,
      walBytesPerRow: perRow,
      pageMs: { p50: positive },
    },
  });
  const report = await readFile(html, 'utf8');
  expect(report).toContain('the path into the stored rows');
  expect(report).toContain('&quot;deliveries&quot;: 1000');
});

test('a report that cannot be written is refused before the benchmark', async () => {
  const path = join(await temporaryDirectory(), 'missing', 'report.html');
  const refused = await feedctl(['bench', 'read', '--html', path, '--json']);
  expect([refused.status, JSON.parse(refused.stdout).error.code]).toEqual([1, 'FILE_UNWRITABLE']);
});

test('bench trim: whole partitions beside rows, with live posts', async () => {
  const size = ['--stored', '4000', '--stored-per-user', '20', '--seconds', '1'];
  const one = { rows: positive, rowsPerSecond: positive, live: { p99: positive } };
  expect(await json(['bench', 'trim', ...size])).toMatchObject({
    alone: { p99: positive },
    partitions: { ...one, rows: 4_000, deadRows: 0 },
    rows: one,
    speedup: positive,
  });
});
