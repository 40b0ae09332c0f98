import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  emptyDatabase,
  feedctl,
  json,
  type Running,
  sql,
  start,
  temporaryDirectory,
  waitUntil,
} from '../support/cli.ts';
import { findServer } from '../support/server.ts';

const redis = await findServer('redis');

interface Stats {
  kind: string;
  ready: boolean;
  hitRate: number | null;
  gateways: { hits: number; misses: number; refills: number }[];
  unreachable: object[];
}
interface Details {
  following: number;
  posts: number;
  feed: { items: number; floor: number; materialized: boolean };
  cache: { kind: string; entries: number | null };
  connections: { connections: object[]; unreachable: object[] };
}

const kinds = [
  { kind: 'memory', skip: false, url: undefined },
  { kind: 'redis', skip: !redis, url: redis },
];

describe.each(kinds)('a cache in $kind', ({ kind, skip, url }) => {
  let at: { env: Record<string, string> };
  let databaseUrl: string;
  let gateway: Running;
  let gatewayUrl: string;
  let worker: Running;
  let token: string;
  let reads = 0;
  /** Waits for a report that counts every read. */
  const stats = async () => {
    let found: Stats;
    const counted = async () => {
      found = await json<Stats>(['cache', 'stats'], at);
      return found.gateways.reduce((sum, { hits, misses }) => sum + hits + misses, 0);
    };
    await expect.poll(counted).toBeGreaterThanOrEqual(reads);
    return found!;
  };
  const user = (id: string) => json<Details>(['user', 'show', id], at);
  const read = async () => {
    reads += 1;
    const headers = { authorization: `Bearer ${token}` };
    return (await (await fetch(`${gatewayUrl}/post/feed`, { headers })).json()) as object[];
  };

  beforeAll(async () => {
    if (skip) return;
    databaseUrl = await emptyDatabase(`cli_cache_${kind}`);
    at = { env: { FEEDCTL_DATABASE_URL: databaseUrl, ...(url && { FEEDCTL_CACHE_URL: url }) } };
    await json(['migrate'], at);
    worker = start(['worker', 'start', '--json'], at);
    gateway = start(['gateway', 'start', '--port', '0', '--json'], at);
    await Promise.all([worker.printed(/"ready": true/), gateway.printed(/"ready": true[\s\S]*\}\n/)]);
    ({ gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string });
    for (const id of ['1', '2']) await json(['user', 'create', '--id', id], at);
    await json(['follow', 'create', '2', '1'], at);
    await json(['post', 'create', '1', 'hello'], at);
    ({ token } = await json<{ token: string }>(['user', 'token', '2'], at));
    await waitUntil(
      async () => (await sql(databaseUrl, 'select 1 from feed_items where user_id = 2')).length === 1,
    );
  });
  afterAll(() => {
    worker?.child.kill('SIGTERM');
    gateway?.child.kill('SIGKILL');
  });

  test.skipIf(skip)('is shown, of one feed cleared, and of all', async () => {
    expect(await stats()).toMatchObject({ kind, ready: true, unreachable: [] });
    for (let i = 0; i < 3; i += 1) expect(await read()).toHaveLength(1);
    const before = await stats();
    expect(before.gateways).toHaveLength(1);
    expect(before.gateways[0]!.refills).toBe(1);
    expect(before.hitRate).toBeGreaterThan(0.5);
    expect((await feedctl(['cache', 'stats'], at)).stdout).toMatch(new RegExp(`^${kind}: .*% hits`));

    const clear = ['cache', 'clear'];
    await json([...clear, '2', '--dry-run'], at);
    const asked = await feedctl([...clear, '--all', '--json'], at);
    expect(asked.status).toBe(2);
    expect(JSON.parse(asked.stdout)).toMatchObject({ error: { code: 'CONFIRMATION_REQUIRED' } });
    expect((await feedctl([...clear, '99', '--json'], at)).status).toBe(1);
    expect((await feedctl(clear, at)).status).toBe(2);
    await read();
    expect((await stats()).gateways[0]!.refills).toBe(1);
    expect(await json([...clear, '2'], at)).toEqual({ userId: 2, cleared: true, dryRun: false });
    expect(await read()).toHaveLength(1);
    expect((await stats()).gateways[0]!.refills).toBe(2);
    expect(await json([...clear, '--all', '--yes'], at)).toMatchObject({ userId: null, cleared: true });
    expect(await read()).toHaveLength(1);
    expect((await stats()).gateways[0]!.refills).toBe(3);
  });

  test.skipIf(skip)('is warmed before its readers ask; one in memory warms itself', async () => {
    const warm = (...args: string[]) => feedctl(['cache', 'warm', ...args, '--json'], at);
    for (const args of [[], ['2', '--hot', '3'], ['--hot', '3', '--file', 'x'], ['x'], ['--hot', '0']])
      expect((await warm(...args)).status, args.join(' ')).toBe(2);
    await read();
    if (kind === 'memory') {
      const refused = await warm('2');
      expect(refused.status).toBe(1);
      expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'CACHE_NOT_SHARED' } });
      return;
    }
    const directory = await temporaryDirectory();
    const file = join(directory, 'users.gz');
    await writeFile(file, gzipSync('# two of them\n1\n2\n1\n'));
    const refills = async () => (await stats()).gateways[0]!.refills;
    for (const [args, warmed] of [
      [['2'], 1],
      [['1', '2', '2'], 2],
      [['--hot', '10'], 1],
      [['--file', file], 2],
    ] as const) {
      await json(['cache', 'clear', '--all', '--yes'], at);
      // A gateway that notices the empty cache loads the feeds of its own frequent readers meanwhile.
      const done = { warmed, failed: 0, left: 0 };
      expect(await json(['cache', 'warm', ...args, '--dry-run'], at)).toMatchObject({
        ...done,
        dryRun: true,
      });
      expect(await json(['cache', 'warm', ...args], at)).toMatchObject(done);
      expect(await json(['cache', 'warm', ...args], at)).toMatchObject({ ...done, held: warmed });
      const before = await refills();
      expect(await read()).toHaveLength(1);
      expect(await refills(), 'the gateway had nothing to load').toBe(before);
    }
    await writeFile(file, gzipSync('2\n99\n'));
    const unknown = await warm('--file', file);
    expect([unknown.status, JSON.parse(unknown.stdout)]).toMatchObject([
      1,
      { error: { code: 'USER_NOT_FOUND', message: expect.stringContaining('line 2') } },
    ]);
  });

  test.skipIf(skip)('a user is shown with feed, cache and connections', async () => {
    await read();
    expect(await user('1')).toMatchObject({ following: 0, posts: 1, feed: { items: 0 } });
    expect(await user('2')).toMatchObject({
      id: 2,
      following: 1,
      posts: 0,
      feed: { items: 1, floor: 0, materialized: true },
      cache: { kind, entries: kind === 'redis' ? 1 : null },
      connections: { connections: [], unreachable: [] },
    });
    const socket = new WebSocket(`${gatewayUrl.replace('http', 'ws')}/post/feed/posted?token=${token}`);
    await new Promise((done) => socket.addEventListener('message', done, { once: true }));
    expect((await user('2')).connections.connections).toMatchObject([{ userId: 2, gatewayUrl }]);
    expect((await feedctl(['user', 'show', '2'], at)).stdout).toMatch(/connections +1\n/);
    socket.close();
    gateway.child.kill('SIGKILL');
    await gateway.ended;
    expect((await user('2')).connections).toMatchObject({ connections: [], unreachable: [{}] });
    const shown = await feedctl(['user', 'show', '2'], at);
    expect(shown).toMatchObject({ status: 0, stderr: expect.stringContaining('Not known') });
    // As long as after its last report.
    await sql(databaseUrl, `update process_figures set seen_at = seen_at - interval '15 s'`);
    expect((await feedctl(['cache', 'stats', '--json'], at)).status).toBe(3);
  });
});
