import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openRedisCache } from '../../../../src/engine/cache/redis/cache.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../../src/engine/telemetry/metrics.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { file } from '../../../support/files.ts';
import { redis, startRedis } from '../../../support/redis.ts';
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
