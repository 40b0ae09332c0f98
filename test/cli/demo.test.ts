import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { feedctl, postgresOf, start, temporaryDirectory, waitUntil } from '../support/cli.ts';

test('the demo proves every feed and every push, and leaves nothing behind', async () => {
  const directory = await temporaryDirectory();
  const { stdout, stderr, status } = await feedctl(['demo', '--json'], { env: { TMPDIR: directory } });
  expect(status, stdout + stderr).toBe(0);
  const result = JSON.parse(stdout) as { pushed: number; deliveries: number; posts: number };
  expect(result).toMatchObject({
    verify: {
      mismatched: 0,
      missing: 0,
      strangers: 0,
      duplicates: 0,
      asymmetric: 0,
      readsMismatched: 0,
      sockets: { missing: 0, strangers: 0, duplicates: 0 },
    },
  });
  expect(result.posts).toBeGreaterThan(20_000);
  expect(result.deliveries).toBeGreaterThan(100_000);
  expect(result.pushed).toBeGreaterThan(0);
  // One plain line a step, on stderr.
  expect(stderr.trim().split('\n'), stderr).toHaveLength(7);
  expect(stderr).not.toContain('\u001b');
  expect(readdirSync(directory)).toEqual([]);
  expect(postgresOf(directory)).toEqual([]);
});

test.for([
  ['at its start', () => true],
  ['in the middle', (stderr: string) => stderr.includes('Load who follows whom')],
] as const)('Ctrl-C %s leaves nothing behind either', async ([, reached]) => {
  const directory = await temporaryDirectory();
  const demo = start(['demo', '--json'], { env: { TMPDIR: directory }, group: true });
  await waitUntil(() => readdirSync(directory).length > 0 && reached(demo.stderr()));
  process.kill(-demo.pid, 'SIGINT');
  const { stdout, status } = await demo.ended;
  expect(status).toBe(3);
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'INTERRUPTED' } });
  expect(readdirSync(directory)).toEqual([]);
  expect(postgresOf(directory)).toEqual([]);
});
