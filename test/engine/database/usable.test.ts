import { describe, expect, onTestFinished, test } from 'vitest';
import { openCluster } from '../../../src/engine/cluster/cluster.ts';
import { startGatewayRole, startMetricsRole, startWorkerRole } from '../../../src/engine/cluster/roles.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { Database } from '../../../src/engine/database/database.ts';
import { migrate } from '../../../src/engine/database/migrate.ts';
import { openReadiness } from '../../../src/engine/fleet/readiness.ts';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import { diagnose } from '../../../src/engine/monitoring/doctor.ts';
import { createUser } from '../../../src/engine/social/users.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { ServerUrl } from '../../../src/engine/util/serverUrl.ts';
import { emptyDatabase, freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { UNLIMITED } from '../../support/gateways.ts';
import { isPgbouncerInstalled, startPgbouncer } from '../../support/pgbouncer.ts';
import { startPromotable } from '../../support/standby.ts';
import { ask } from '../gateway/served.ts';

const SECONDS = { timeout: 30_000 };

const opened = async (databaseUrl: string) => {
  const config = await loadConfig({ databaseUrl }, {});
  const cluster = await openCluster(config, { log: silentLog, metrics: await openMetrics() });
  onTestFinished(() => cluster.close());
  return cluster;
};

const faultsOf = async (databaseUrl: string) =>
  (await diagnose(await loadConfig({ databaseUrl }, {}))).checks.filter(({ status }) => status === 'fault');

function readinessOf(url: string) {
  const readiness = openReadiness({ db: { server: new ServerUrl(url) } });
  onTestFinished(() => readiness.close());
  return readiness;
}

test('a standby is used by no role, and roles that run work again as soon as it is promoted', async () => {
  const server = await startPromotable();
  const { url } = server;
  const admin = new Database(url);
  onTestFinished(() => admin.close());
  await migrate(admin);
  const cluster = await opened(url);
  await startWorkerRole(cluster, cluster.resources, 'test');
  const options = { host: '127.0.0.1', port: 0, limits: UNLIMITED };
  const { gateway } = await startGatewayRole(cluster, cluster.resources, options);
  const worker = await startMetricsRole(cluster, cluster.resources, options);
  const author = (await createUser(cluster, {})).id;
  const token = await signToken(cluster.db, author);
  const post = () => ask(gateway.url, 'POST', '/post/create', { token, body: { text: 'here' } });
  const ready = async () => [
    await ask(gateway.url, 'GET', '/readyz'),
    await fetch(`${worker.url}/readyz`).then(async (answer) => ({
      status: answer.status,
      body: await answer.text(),
    })),
  ];
  expect((await post()).status).toBe(201);
  await expect.poll(ready, SECONDS).toMatchObject([{ status: 200 }, { status: 200 }]);

  await server.demote();
  const refused = await post();
  expect(refused).toMatchObject({ status: 503, body: { code: 'DATABASE_READ_ONLY' } });
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  await expect.poll(ready, SECONDS).toMatchObject([
    { status: 503, body: { code: 'DATABASE_READ_ONLY' } },
    { status: 503, body: expect.stringContaining('DATABASE_READ_ONLY') },
  ]);
  expect(await faultsOf(url)).toMatchObject([
    { name: 'DATABASE_READ_ONLY', detail: expect.stringContaining('standby') },
  ]);
  expect(await rejection(opened(url))).toMatchObject({ code: 'DATABASE_READ_ONLY' });
  expect(await rejection(createUser({ ...cluster, db: admin }, {}))).toMatchObject({
    code: 'DATABASE_READ_ONLY',
  });

  await admin.query('select pg_promote()');
  await expect.poll(async () => (await post()).status, SECONDS).toBe(201);
  await expect.poll(ready, SECONDS).toMatchObject([{ status: 200 }, { status: 200 }]);
  expect((await faultsOf(url)).map(({ name }) => name)).not.toContain('DATABASE_READ_ONLY');
});

test('a role whose sessions become read-only is not ready until they can write', async () => {
  const { db, url } = await freshDatabase();
  const readiness = readinessOf(url);
  await readiness.check();
  const name = new URL(url.replace('@/', '@none/')).pathname.slice(1);
  await db.query(`alter database ${name} set default_transaction_read_only = on`);
  const late = readinessOf(url);
  expect(await rejection(late.check())).toMatchObject({
    code: 'DATABASE_READ_ONLY',
    message: expect.stringContaining('default_transaction_read_only'),
  });
  await db.query(`alter database ${name} reset default_transaction_read_only`);
  await late.check();
});

describe.skipIf(!isPgbouncerInstalled)('through PgBouncer', () => {
  test('in transaction mode no role is ready, none starts, and doctor says why', async () => {
    const { url } = await freshDatabase();
    const pooled = await startPgbouncer(url, 'transaction');
    expect(await rejection(readinessOf(pooled).check())).toMatchObject({ code: 'DATABASE_POOLED' });
    expect(await faultsOf(pooled)).toMatchObject([{ name: 'DATABASE_POOLED' }]);
    const cluster = await opened(pooled);
    expect(await rejection(startWorkerRole(cluster, cluster.resources, 'test'))).toMatchObject({
      code: 'DATABASE_POOLED',
    });
    const options = { host: '127.0.0.1', port: 0, limits: UNLIMITED };
    expect(await rejection(startGatewayRole(cluster, cluster.resources, options))).toMatchObject({
      code: 'DATABASE_POOLED',
    });
    const heard: string[] = [];
    const listening = cluster.db.listen(['anything'], { onNotify: (_, payload) => heard.push(payload) });
    expect(await rejection(listening)).toMatchObject({ code: 'DATABASE_POOLED' });
    const empty = await emptyDatabase();
    const migrating = new Database(await startPgbouncer(empty.url, 'transaction'));
    onTestFinished(() => migrating.close());
    expect(await rejection(migrate(migrating))).toMatchObject({ code: 'DATABASE_POOLED' });
  });

  test('in session mode roles are ready', async () => {
    const { url } = await freshDatabase();
    const pooled = await startPgbouncer(url, 'session');
    await readinessOf(pooled).check();
    const cluster = await opened(pooled);
    await startWorkerRole(cluster, cluster.resources, 'test');
    const heard: string[] = [];
    await cluster.db.listen(['anything'], { onNotify: (_, payload) => heard.push(payload) });
    await cluster.db.query(`select pg_notify('anything', 'here')`);
    await expect.poll(() => heard).toEqual(['here']);
    expect((await faultsOf(pooled)).map(({ name }) => name)).not.toContain('DATABASE_POOLED');
  });
});
