import { expect, onTestFinished, test } from 'vitest';
import { openCluster } from '../../../src/engine/cluster/cluster.ts';
import { placeOf } from '../../../src/engine/cluster/components.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { messageOf } from '../../../src/engine/model/errors.ts';
import { freshVhost } from '../../support/broker.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { redis, startRedis } from '../../support/redis.ts';
import { findServer } from '../../support/server.ts';

const SECONDS = { timeout: 15_000 };

test.each([
  ['amqp://user:secret@b:5672/v, amqps://user:secret@a/v?heartbeat=5', 'a/v,b:5672/v'],
  ['redis://:se,cret@host:6379/2', 'host:6379/2'],
  ['redis+sentinel://user:se,cr@et@s2:26379,s1/group/0?sentinel_password=secret,1', 's1/group/0,s2:26379'],
  ['rediss+cluster://n1:6379,n2:6379', 'n1:6379,n2:6379'],
  ['redis://host/', 'host'],
])('what is recorded of %s names its servers and nothing else', (url, place) => {
  expect(placeOf(url)).toBe(place);
});

/** Opens the clusters of two roles that start at the same moment: none of them finds the other. */
async function startedTogether(first: Record<string, string>, second: Record<string, string>) {
  const { url: databaseUrl } = await freshDatabase();
  const opened = async (servers: Record<string, string>) => {
    const config = await loadConfig({ databaseUrl }, servers);
    const cluster = await openCluster(config, { role: 'one of many' });
    onTestFinished(() => cluster.close());
    return cluster;
  };
  return { earlier: await opened(first), later: await opened(second), opened };
}

const broker = await findServer('rabbitmq');

test.skipIf(!broker)('roles that start with different brokers at once are noticed', async () => {
  const [{ url }, { url: another }] = [await freshVhost(broker!), await freshVhost(broker!)];
  const { earlier, later, opened } = await startedTogether(
    { FEEDCTL_BROKER_URL: url },
    { FEEDCTL_BROKER_URL: another },
  );
  for (const { bus } of [earlier, later]) await bus.consume({ queues: ['events'], prefetch: 1 }, () => {});
  await later.readiness.check();
  expect(await rejection(earlier.readiness.check())).toMatchObject({
    code: 'CLUSTER_DIFFERS',
    message: expect.stringContaining(new URL(another).pathname),
  });
  expect([earlier.readiness.differs, later.readiness.differs]).toEqual([true, false]);
  // One more role knows the broker of the cluster by another address, and says its name.
  const third = await opened({ FEEDCTL_BROKER_URL: another.replace('127.0.0.1', 'localhost') });
  await third.bus.consume({ queues: ['events'], prefetch: 1 }, () => {});
  await third.readiness.check();
  await expect.poll(() => later.readiness.check().then(() => 'ready', messageOf), SECONDS).toBe('ready');
  expect(await rejection(earlier.readiness.check())).toMatchObject({ code: 'CLUSTER_DIFFERS' });
});

test.skipIf(!redis.installed())('roles that start with different caches at once are noticed', async () => {
  const servers = [await startRedis(), await startRedis()];
  onTestFinished(async () => {
    for (const server of servers) await server.stop();
  });
  const [first, second] = servers.map(({ url }) => ({ FEEDCTL_CACHE_URL: url }));
  const { earlier, later } = await startedTogether(first!, second!);
  await later.readiness.check();
  expect(await rejection(earlier.readiness.check())).toMatchObject({ code: 'CLUSTER_DIFFERS' });
});
