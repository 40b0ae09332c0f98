import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { feedctl, json } from '../support/cli.ts';

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
