import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { dirname } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openRedisCache } from '../../../../src/engine/cache/redis/cache.ts';
import { type Log, silentLog } from '../../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../../src/engine/telemetry/metrics.ts';
import { temporaryDirectory } from '../../../support/cli.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { file } from '../../../support/files.ts';
import { openProxy } from '../../../support/proxy.ts';
import { redis, redisCommand, startRedis } from '../../../support/redis.ts';
import { freePorts } from '../../../support/servers.ts';
import { loaded } from '../contract.ts';

async function server(...options: string[]) {
  const running = await startRedis(options);
  onTestFinished(() => running.stop());
  return running;
}

async function open(url: string) {
  const { db } = await freshDatabase();
  const cache = await openRedisCache(url, db, silentLog);
  onTestFinished(() => cache.close());
  return cache;
}

/** Serves a server that answers INFO with these lines and accepts every other command. */
async function imitated(lines: string[]): Promise<string> {
  const info = [...lines, 'run_id:0123456789abcdef', 'maxmemory:0', 'role:master', ''].join('\r\n');
  const tcp = createTcpServer((socket) => {
    socket.setEncoding('utf8').on('data', (text: string) => {
      // A command begins with the number of its words.
      for (const one of text.split(/(?=\*\d+\r\n)/))
        socket.write(/^\*1\r\n\$4\r\ninfo/i.test(one) ? `$${info.length}\r\n${info}\r\n` : '+OK\r\n');
    });
    socket.on('error', () => {});
  }).listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  onTestFinished(() => void tcp.close());
  return `redis://127.0.0.1:${(tcp.address() as AddressInfo).port}`;
}

/** A log, and its warnings. */
function recordedLog() {
  const warnings: { code?: string; reason?: string }[] = [];
  const log: Log = { info() {}, error() {}, warn: (fields) => void warnings.push(fields) };
  return { warnings, log };
}

describe.skipIf(!redis.installed())('servers', () => {
  test('a password that is wrong or missing is refused, the right one is not', async () => {
    const { url } = await server('--requirepass', 'secret');
    const at = (password: string) => url.replace('redis://', `redis://default:${password}@`);
    const refused = await rejection(open(at('wrong')));
    expect(refused).toMatchObject({ code: 'CACHE_REFUSED' });
    expect(refused.message).not.toContain('wrong@');
    expect(await rejection(open(url))).toMatchObject({ code: 'CACHE_REFUSED' });
    expect((await open(at('secret'))).health()).toMatchObject({ ready: true });
  });

  test.each([
    ['a replica', ['--replicaof', '127.0.0.1', '1'], /replica/],
    ['a node of a cluster', ['--cluster-enabled', 'yes'], /Cluster/],
  ])('%s is refused', async (_, options, why) => {
    const directory = dirname(await file(''));
    // The default port of the cluster bus is 10,000 above, which may exceed 65,535.
    const [busPort] = await freePorts(1);
    const bus = options.includes('--cluster-enabled') ? ['--cluster-port', String(busPort)] : [];
    const { url } = await server(...options, ...bus, '--dir', directory);
    const refused = await rejection(open(url));
    expect(refused).toMatchObject({ code: 'CACHE_UNSUITABLE' });
    expect(refused.message).toMatch(why);
  });

  test('a server that is demoted under live connections is left for the one that takes writes', async () => {
    const [demoted, promoted] = [await server(), await server()];
    const proxy = await openProxy(demoted.url);
    const { db } = await freshDatabase();
    const { log, warnings } = recordedLog();
    const cache = await openRedisCache(`redis://${new URL(proxy.url).host}`, db, log);
    onTestFinished(() => cache.close());
    const kept = async (userId: number) => {
      await cache.refill(userId, async () => loaded(userId));
      return (await cache.get(userId)) !== undefined;
    };
    expect(await kept(1)).toBe(true);
    await redisCommand(demoted.url, 'replicaof', '127.0.0.1', new URL(promoted.url).port);
    await expect.poll(() => kept(2)).toBe(false);
    expect(cache.health()).toMatchObject({ ready: false });
    await expect.poll(() => cache.health().detail).toMatch(/is a replica/);
    proxy.leadTo(promoted.url);
    await expect.poll(() => kept(3)).toBe(true);
    expect(cache.health()).toMatchObject({ ready: true });
    const reasons = warnings.map(({ reason }) => reason);
    expect(reasons.length).toBe(new Set(reasons).size);
    expect(reasons.join(' ')).toMatch(/READONLY.*is a replica/);
  });

  test.each<[string, string[][], string[][], RegExp]>([
    [
      'has too few replicas',
      [['config', 'set', 'min-replicas-to-write', '1']],
      [['config', 'set', 'min-replicas-to-write', '0']],
      /NOREPLICAS/,
    ],
    [
      'takes a permission away',
      [['acl', 'setuser', 'default', '-set']],
      [['acl', 'setuser', 'default', '+set']],
      /permissions|NOPERM|can't run/,
    ],
  ])('one that %s is not used until it takes writes again', async (_, refuse, allow, why) => {
    const running = await server();
    const { db } = await freshDatabase();
    const { log, warnings } = recordedLog();
    const cache = await openRedisCache(running.url, db, log);
    onTestFinished(() => cache.close());
    const kept = async (userId: number) => {
      await cache.refill(userId, async () => loaded(userId));
      return (await cache.get(userId)) !== undefined;
    };
    expect(await kept(1)).toBe(true);
    for (const words of refuse) await redisCommand(running.url, ...words);
    await expect.poll(() => kept(2)).toBe(false);
    await expect
      .poll(() => cache.health())
      .toMatchObject({ ready: false, detail: expect.stringMatching(why) });
    expect(warnings[0]).toMatchObject({ code: 'CACHE_REFUSED', reason: expect.stringMatching(why) });
    const reasons = warnings.map(({ reason }) => reason);
    expect(reasons.length).toBe(new Set(reasons).size);
    for (const words of allow) await redisCommand(running.url, ...words);
    await expect.poll(() => kept(3)).toBe(true);
  });

  test('a role starts while a server cannot save its data and refuses writes', async () => {
    const directory = await temporaryDirectory();
    const running = await server('--save', '3600 1000000', '--dir', directory);
    await rm(directory, { recursive: true });
    await redisCommand(running.url, 'bgsave');
    const cache = await open(running.url);
    await expect
      .poll(async () => {
        await cache.refill(1, async () => loaded(1));
        return cache.health();
      })
      .toMatchObject({ ready: false, detail: expect.stringContaining('MISCONF') });
    const late = await open(running.url);
    expect(late.health()).toMatchObject({ ready: false, fix: expect.stringContaining('log') });
    await redisCommand(running.url, 'config', 'set', 'save', '');
    await expect.poll(() => late.health().ready).toBe(true);
  });

  test.each([
    ['reports the mode of a cluster', 'server_mode:cluster', 'CACHE_UNSUITABLE'],
    ['has clusters enabled', 'cluster_enabled:1', 'CACHE_UNSUITABLE'],
    ['stands alone', 'server_mode:standalone', undefined],
  ])('a Valkey that %s', async (_, line, code) => {
    const url = await imitated(['server_name:valkey', 'valkey_version:9.1.2', 'redis_version:7.2.4', line]);
    if (code) expect(await rejection(open(url))).toMatchObject({ code });
    else
      expect((await open(url)).health()).toMatchObject({ ready: true, server: 'Valkey', version: '9.1.2' });
  });

  test('what is no Redis is not taken for one', async () => {
    const http = createServer((_, response) => response.end());
    await new Promise<void>((done) => http.listen(0, '127.0.0.1', done));
    onTestFinished(() => void http.closeAllConnections());
    onTestFinished(() => void http.close());
    const url = `redis://127.0.0.1:${(http.address() as AddressInfo).port}`;
    const cache = await open(url).catch((error: unknown) => error);
    if (cache instanceof Error) expect(cache).toMatchObject({ code: 'CACHE_UNSUITABLE' });
    else expect((cache as Awaited<ReturnType<typeof open>>).health()).toMatchObject({ ready: false });
  });

  test('a server that would refuse writes when full is named', async () => {
    const { url } = await server('--maxmemory', '10mb', '--maxmemory-policy', 'noeviction');
    expect((await open(url)).health().warning?.fix).toMatch(/allkeys-lru/);
    const other = await server('--maxmemory', '10mb', '--maxmemory-policy', 'allkeys-lru');
    expect((await open(other.url)).health()).not.toHaveProperty('warning');
    const unlimited = await server('--maxmemory', '0');
    expect((await open(unlimited.url)).health().warning?.fix).toMatch(/maxmemory/);
  });

  test('one that hangs opens the circuit, and metrics say so', async () => {
    const running = await server();
    const { db } = await freshDatabase();
    const metrics = await openMetrics();
    const cache = await openRedisCache(running.url, db, silentLog, metrics);
    onTestFinished(() => cache.close());
    const value = async (name: string) =>
      Number(
        new RegExp(`^feedctl_dependency_${name}{dependency="cache"} (\\d+)$`, 'm').exec(
          await metrics.text(),
        )?.[1],
      );
    expect(await value('circuit_state')).toBe(0);
    running.freeze(true);
    await Promise.all([cache.get(1), cache.get(2)]);
    expect(await value('circuit_state')).toBe(2);
    expect(await value('circuit_openings_total')).toBe(1);
    expect(await value('timeouts_total')).toBeGreaterThanOrEqual(2);
    running.freeze(false);
    await expect.poll(() => value('circuit_state')).toBe(0);
    expect(await value('circuit_openings_total')).toBe(1);
  });

  test('one that is away at first is used when it is there', async () => {
    const running = await server();
    await running.down('stop');
    const cache = await open(running.url);
    expect(cache.health()).toMatchObject({ ready: false });
    expect(await cache.refill(1, async () => loaded(1))).toMatchObject({ entries: [{ postId: 1 }] });
    await running.up();
    const kept = async () => {
      await cache.refill(1, async () => loaded(1));
      return cache.get(1);
    };
    await expect.poll(kept).toMatchObject({ entries: [{ postId: 1 }] });
    expect(cache.health()).toMatchObject({ ready: true });
  });

  test('one that comes back from an old snapshot shows nothing of it', async () => {
    const directory = dirname(await file(''));
    const running = await server('--dir', directory, '--save', '3600 1');
    const cache = await open(running.url);
    await cache.refill(1, async () => loaded(1));
    expect(await cache.get(1)).toMatchObject({ entries: [{ postId: 1 }] });
    // An orderly stop writes a snapshot.
    await running.down('stop');
    await running.up();
    await expect.poll(() => cache.health().ready).toBe(true);
    expect(await cache.get(1)).toBeUndefined();
  });
});
