import { expect, onTestFinished, test } from 'vitest';
import { openReadiness } from '../../../src/engine/fleet/readiness.ts';
import { DatabaseClock } from '../../../src/engine/store/databaseClock.ts';
import { openIdSource } from '../../../src/engine/store/idLeases.ts';
import { testCluster } from '../../support/cluster.ts';
import { served } from './served.ts';

test('while the clock of the database is behind, posts get 503 at once, feeds are read, and the gateway is not ready', async () => {
  const cluster = await testCluster();
  let aheadMs = 0;
  class SetClock extends DatabaseClock {
    override now = () => super.now() + aheadMs;
  }
  const clock = new SetClock();
  const ids = openIdSource(cluster.db, { clock });
  onTestFinished(() => ids.release());
  const readiness = openReadiness({ db: cluster.db, ids, clock });
  onTestFinished(() => readiness.close());
  const { ask, tokenOf } = await served({}, { ...cluster, clock, ids, readiness });
  const [author] = (await cluster.users(1)) as [number];
  const token = await tokenOf(author);
  const post = () => ask('POST', '/post/create', { token, body: { text: 'here' } });
  expect((await post()).status).toBe(201);
  await expect.poll(async () => (await ask('GET', '/readyz')).status).toBe(200);

  aheadMs = -45_000;
  const refused = await post();
  expect(refused).toMatchObject({ status: 503, body: { code: 'CLOCK_BEHIND' } });
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(30);
  expect(await ask('GET', '/readyz')).toMatchObject({ status: 503, body: { code: 'CLOCK_BEHIND' } });
  expect((await ask('GET', '/post/feed', { token })).status).toBe(200);

  aheadMs = 0;
  expect((await post()).status).toBe(201);
  expect((await ask('GET', '/readyz')).status).toBe(200);
});
