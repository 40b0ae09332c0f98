import { expect, onTestFinished, test } from 'vitest';
import { RabbitBus } from '../../../src/engine/bus/rabbitmq/bus.ts';
import type { Cluster } from '../../../src/engine/cluster/cluster.ts';
import { startMetricsRole } from '../../../src/engine/cluster/roles.ts';
import { openWorkPool } from '../../../src/engine/database/pools.ts';
import { workersOf } from '../../../src/engine/fanout/laneControl.ts';
import { startWorker } from '../../../src/engine/fanout/worker.ts';
import { planWorkerDrain } from '../../../src/engine/fleet/drain.ts';
import { openReadiness } from '../../../src/engine/fleet/readiness.ts';
import { workerStates } from '../../../src/engine/fleet/workers.ts';
import { Identity, renameCluster } from '../../../src/engine/identity/identity.ts';
import { DATABASE_WORK } from '../../../src/engine/resilience/limits.ts';
import { Resources } from '../../../src/engine/resilience/resources.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { freshVhost } from '../../support/broker.ts';
import { testCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { openProxy } from '../../support/proxy.ts';
import { management } from '../../support/rabbitmq.ts';
import { findServer } from '../../support/server.ts';

const SECONDS = { timeout: 15_000 };
const server = await findServer('rabbitmq');

/** Asks a worker of this cluster whether it is ready, as Kubernetes does. */
async function asked(cluster: Pick<Cluster, 'db' | 'bus'>) {
  const resources = new Resources();
  onTestFinished(() => resources.release());
  const metrics = await openMetrics();
  const readiness = openReadiness(cluster);
  resources.add('readiness', () => readiness.close());
  const options = { host: '127.0.0.1', port: 0 };
  const { url } = await startMetricsRole({ ...cluster, readiness, metrics } as Cluster, resources, options);
  return async () => {
    const response = await fetch(`${url}/readyz`);
    return { status: response.status, body: await response.text() };
  };
}

test('a worker is ready however many of its sessions are at work, and not without its database', async () => {
  const { bus, url } = await testCluster();
  const proxy = await openProxy(url);
  const db = openWorkPool(proxy.url);
  onTestFinished(() => db.close());
  const ready = await asked({ db, bus });
  const over = Promise.withResolvers<void>();
  let taken = 0;
  const work = () => {
    taken += 1;
    return over.promise;
  };
  const busy = Promise.all(Array.from({ length: DATABASE_WORK.sessions }, () => db.withSession(work)));
  await expect.poll(() => taken).toBe(DATABASE_WORK.sessions);
  expect((await ready()).status).toBe(200);
  proxy.cut();
  await expect
    .poll(ready)
    .toMatchObject({ status: 503, body: expect.stringContaining('DATABASE_UNREACHABLE') });
  proxy.open();
  await expect.poll(async () => (await ready()).status).toBe(200);
  // It says nothing any more, which is as good as gone.
  proxy.stall();
  await expect.poll(async () => (await ready()).status).toBe(503);
  proxy.open();
  over.resolve();
  await busy;
});

test.skipIf(!server)('a worker is not ready without its broker, and whoever lists it says so', async () => {
  const { db, url, clock, changes } = await testCluster();
  const { url: direct, managementUrl } = await freshVhost(server!);
  const proxy = await openProxy(direct);
  const through = new URL(direct);
  through.host = new URL(proxy.url).host;
  const bus = new RabbitBus(through.href, url, { log: silentLog });
  onTestFinished(() => bus.close());
  const worker = await startWorker({
    ...{ db, bus, clock, changes },
    ...{ log: silentLog, version: 'test', drainable: true },
  });
  onTestFinished(() => worker.stop(5_000));
  const ready = await asked({ db, bus });
  const listed = () => workerStates(db);
  await expect.poll(async () => (await ready()).status).toBe(200);
  await expect.poll(listed, SECONDS).toMatchObject([{ id: worker.id, there: true, ready: true }]);
  proxy.cut();
  await expect
    .poll(ready)
    .toMatchObject({ status: 503, body: expect.stringContaining('BROKER_UNREACHABLE') });
  await expect.poll(listed, SECONDS).toMatchObject([{ id: worker.id, there: true, ready: false }]);
  // It can be asked to end all the same, and what it holds is waited for.
  expect(await planWorkerDrain(db, worker.id)).toMatchObject({ worker: { id: worker.id }, others: 0 });
  expect(await workersOf(db, ['live'])).toEqual({ standing: 0, of: 1 });
  proxy.open();
  await expect.poll(async () => (await ready()).status).toBe(200);
  await expect.poll(listed, SECONDS).toMatchObject([{ id: worker.id, ready: true }]);
  // The broker keeps the connection, on which the worker can no longer publish.
  const may = (write: string) =>
    management(managementUrl, 'PUT', `permissions/${new URL(direct).pathname.slice(1)}/guest`, {
      ...{ configure: '.*', read: '.*', write },
    });
  await may('^$');
  await expect
    .poll(ready, SECONDS)
    .toMatchObject({ status: 503, body: expect.stringContaining('BROKER_REFUSED') });
  await expect.poll(listed, SECONDS).toMatchObject([{ id: worker.id, ready: false }]);
  await may('.*');
  await expect.poll(async () => (await ready()).status, SECONDS).toBe(200);
});

test('a role is not ready once its database is another cluster’s, although its sessions stay open', async () => {
  const { db } = await testCluster();
  const readiness = openReadiness({ db, identity: await Identity.open(db) });
  onTestFinished(() => readiness.close());
  await readiness.check();
  await renameCluster(db);
  expect(await rejection(readiness.check())).toMatchObject({ code: 'DATABASE_OTHER_CLUSTER' });
});
