import { expect, onTestFinished, test } from 'vitest';
import { openCluster } from '../../../src/engine/cluster/cluster.ts';
import { startGatewayRole, startWorkerRole } from '../../../src/engine/cluster/roles.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { testCluster } from '../../support/cluster.ts';
import { openProxy } from '../../support/proxy.ts';

/** A worker and a gateway behind a proxy to the database; the test connects directly. */
async function breakable() {
  const direct = await testCluster();
  const proxy = await openProxy(direct.url);
  const metrics = await openMetrics();
  const config = await loadConfig({ databaseUrl: proxy.url }, {});
  const cluster = await openCluster(config, { log: silentLog, metrics });
  onTestFinished(() => cluster.close());
  await startWorkerRole(cluster, cluster.resources, 'test');
  const { gateway } = await startGatewayRole(cluster, cluster.resources, { host: '127.0.0.1', port: 0 });
  const [author, follower] = (await direct.users(2)) as [number, number];
  await follow(direct, { followerId: follower, followeeId: author });
  const authorization = `Bearer ${await signToken(direct.db, author)}`;
  const call = async (method: string, path: string, body?: object) => {
    const headers = { authorization, ...(body && { 'content-type': 'application/json' }) };
    const init = { method, headers, ...(body && { body: JSON.stringify(body) }) };
    const response = await fetch(gateway.url + path, init);
    const answer = (await response.json()) as { id?: string; code?: string };
    return { status: response.status, id: Number(answer.id), code: answer.code };
  };
  const post = (text: string) => call('POST', '/post/create', { text });
  const expectEverywhere = async (ids: number[]) => {
    await direct.settled();
    for (const table of ['posts', 'feed_items']) {
      const column = table === 'posts' ? 'id' : 'post_id';
      const { rows } = await direct.db.query<{ id: number }>(
        `select ${column} as id from ${table} order by 1`,
      );
      expect(
        rows.map((row) => row.id),
        table,
      ).toEqual(ids);
    }
    const events = await direct.db.query(`select 1 from events where type = 'post.created'`);
    expect(events.rowCount).toBe(ids.length);
    expect(await verify(direct.db, undefined)).toMatchObject({ mismatched: 0 });
  };
  return { direct, proxy, metrics, follower, author, call, post, expectEverywhere };
}

test('a post whose commit was not answered is made once, and acknowledged', async () => {
  const { proxy, post, metrics, expectEverywhere } = await breakable();
  const first = await post('before');
  expect(await metrics.text()).toContain('feedctl_cache_hits_total{cache="feed"} 0');
  const lost = proxy.loseAnswerTo('insert into posts');
  const second = await post('its answer is lost');
  expect(lost()).toBe(true);
  expect(second.status).toBe(201);
  expect(await metrics.text()).toContain('feedctl_dependency_retries_total{dependency="database"} 1');
  await expectEverywhere([first.id, second.id]);
});

test('a follow whose commit was not answered is made once, and comes to the feed', async () => {
  const { direct, proxy, call, author, follower } = await breakable();
  const lost = proxy.loseAnswerTo('insert into follows');
  expect(await call('PUT', `/friend/set/${follower}`)).toMatchObject({ status: 200 });
  expect(lost()).toBe(true);
  await direct.settled();
  const { rows } = await direct.db.query('select followee_id as id from followers where follower_id = $1', [
    author,
  ]);
  expect(rows).toEqual([{ id: follower }]);
});

test('without its database the gateway says 503 with a code, and is well again by itself', async () => {
  const { proxy, call, post, metrics, expectEverywhere } = await breakable();
  const { id } = await post('before');
  proxy.cut();
  const codes = ['DATABASE_UNREACHABLE', 'CIRCUIT_OPEN'];
  for (const refused of await Promise.all(Array.from({ length: 8 }, () => post('nowhere')))) {
    expect(refused.status).toBe(503);
    expect(codes).toContain(refused.code);
  }
  const read = await call('GET', `/post/get/${id}`);
  expect(read).toMatchObject({ status: 503, code: 'CIRCUIT_OPEN' });
  expect(await call('GET', '/readyz')).toMatchObject({ status: 503 });
  expect(await metrics.text()).toMatch(
    /feedctl_dependency_circuit_openings_total\{dependency="database_requests"\} [1-9]/,
  );
  proxy.open();
  await expect.poll(async () => (await call('GET', `/post/get/${id}`)).status).toBe(200);
  const after = await post('after');
  expect(after.status).toBe(201);
  await expectEverywhere([id, after.id]);
});
