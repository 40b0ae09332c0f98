import { describe, expect, onTestFinished, test } from 'vitest';
import { openCluster } from '../../../src/engine/cluster/cluster.ts';
import { startGatewayRole, startWorkerRole } from '../../../src/engine/cluster/roles.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { diagnose } from '../../../src/engine/monitoring/doctor.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { startRedis } from '../../support/redis.ts';
import { findServer } from '../../support/server.ts';

const redisServer = await findServer('redis');
const SECONDS = { timeout: 40_000, interval: 500 };

describe.skipIf(!redisServer)('with Redis', () => {
  test('doctor shows what each role finds, from a shell that reaches everything', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const { url: databaseUrl } = await freshDatabase();
    const config = await loadConfig({ databaseUrl, cacheUrl: server.url }, {});
    const metrics = await openMetrics();
    const warnings: object[] = [];
    const log = { ...silentLog, warn: (fields: object) => void warnings.push(fields) };
    const cluster = await openCluster(config, { log, metrics, role: 'one of many' });
    onTestFinished(() => cluster.close());
    await startWorkerRole(cluster, cluster.resources, 'test');
    const options = { host: '127.0.0.1', port: 0, limits: UNLIMITED };
    await startGatewayRole(cluster, cluster.resources, options);
    // This shell only reads, so it needs no cache.
    const shell = await loadConfig({ databaseUrl }, {});
    const views = async () =>
      (await diagnose(shell)).checks.filter(({ name }) =>
        /^(roles|(worker|gateway) [0-9a-f]{8}$)/.test(name),
      );
    const fine = [{ name: 'roles', status: 'ok', detail: '2 can use everything that they need' }];
    await expect.poll(views, SECONDS).toEqual(fine);
    await server.down('kill');
    const isLost = { status: 'warning', detail: expect.stringMatching(/^CACHE_UNREACHABLE at /) };
    await expect.poll(views, SECONDS).toMatchObject([
      { name: expect.stringMatching(/^worker [0-9a-f]{8}$/), ...isLost },
      { name: expect.stringMatching(/^gateway [0-9a-f]{8}$/), ...isLost },
    ]);
    expect(await metrics.text()).toContain('feedctl_role_fault{code="CACHE_UNREACHABLE"} 2');
    expect(warnings).toContainEqual(expect.objectContaining({ code: 'CACHE_UNREACHABLE' }));
    await server.up();
    await expect.poll(views, SECONDS).toEqual(fine);
    expect(await metrics.text()).toContain('feedctl_role_fault{code="CACHE_UNREACHABLE"} 0');
  });
});
