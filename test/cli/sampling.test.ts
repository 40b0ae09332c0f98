import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { DoctorReport } from '../../src/engine/monitoring/doctor.ts';
import type { ClusterStatus } from '../../src/engine/monitoring/status.ts';
import type { TopSnapshot } from '../../src/engine/monitoring/top/snapshot.ts';
import { testRole } from '../support/cli.ts';
import { freePorts } from '../support/servers.ts';
import { EVERY_FOUNDATION, FOUNDATIONS, httpClient, spawnedCluster } from '../support/spawnedCluster.ts';

// At the interval of real roles, which takes a minute. test/engine/feed/sample has the cases.
test.skipIf(!EVERY_FOUNDATION)(
  'roles find a lost row and a stale cache by themselves; status, doctor, top and metrics show it',
  async () => {
    const cluster = await spawnedCluster(FOUNDATIONS[0]);
    const [port] = (await freePorts(1)) as [number];
    await testRole(['worker', 'start', '--metrics-port', String(port)], cluster.at);
    const { gatewayUrl } = await cluster.gateway();
    // Posts and follows of the last minute are not looked at, so these are old.
    await cluster.sql(`
    insert into users (id) values (1), (2), (3);
    insert into follows (follower_id, followee_id, created_at)
      select id, 3, now() - interval '1 hour' from users where id < 3;
    insert into followers (follower_id, followee_id) values (1, 3), (2, 3);
    insert into posts (author_id, id, body, created_at) values (3, 10, 'lost', now()), (3, 11, 'kept', now());
    insert into feed_items (user_id, post_id, author_id) values (1, 11, 3), (2, 11, 3)`);
    const reader = httpClient(gatewayUrl, await cluster.token(2));
    expect(await reader.feed()).toEqual(['11']);
    await cluster.sql('insert into feed_items (user_id, post_id, author_id) values (2, 10, 3)');
    expect(await reader.feed()).toEqual(['11']);

    const status = () => cluster.json<ClusterStatus>('status');
    for (;;) {
      const { sampling } = await status();
      if (sampling.differing.length > 0 && sampling.healed.length > 0) break;
      await sleep(1_000);
    }
    const { sampling, ready } = await status();
    expect(ready).toBe(true);
    expect(sampling.differing).toMatchObject([{ userId: 1, kind: 'missing', postId: 10 }]);
    expect(sampling.healed).toMatchObject([{ userId: 2, kind: 'cache', postId: 10 }]);
    expect(sampling.mismatched).toEqual({ missing: 1, strangers: 0, cache: 1 });
    expect(sampling.checked).toBeGreaterThan(0);
    expect(sampling.checkedCached).toBeGreaterThan(0);
    expect(await reader.feed()).toEqual(['11', '10']);

    const shown = await cluster.run('status');
    expect(shown.stdout).toMatch(/^sampled feeds: \d+ compared, .* 1 missing posts, .* 1 cached differed/m);
    const { checks } = await cluster.json<DoctorReport>('doctor');
    expect(checks).toContainEqual({
      name: 'sampled feeds',
      status: 'warning',
      detail: expect.stringContaining('the feed of user 1 lacks post 10'),
      fix: 'Run `feedctl feed explain 1 10`, then `feedctl feed verify 1 --repair`.',
    });
    expect(checks).toContainEqual(
      expect.objectContaining({
        name: 'sampled caches',
        status: 'warning',
        detail: expect.stringContaining('a cached feed of user 2 differed at post 10'),
      }),
    );
    const top = await cluster.json<TopSnapshot>('top');
    expect(top.sampling?.differing).toMatchObject([{ userId: 1 }]);
    expect(top.health.problems).toContain('1 sampled feed differs: the feed of user 1 lacks post 10');
    expect((await cluster.run('top', '--once')).stdout).toContain('feeds 1 DIFFER');
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    expect(metrics).toMatch(/^feedctl_sampled_mismatches_total\{kind="missing"\} [1-9]/m);
    const served = await (await fetch(`${gatewayUrl}/metrics`)).text();
    expect(served).toMatch(/^feedctl_sampled_mismatches_total\{kind="cache"\} 1$/m);

    await cluster.json('feed', 'verify', '1', '--repair');
    while ((await status()).sampling.differing.length > 0) await sleep(1_000);
    expect((await status()).sampling.last).toMatchObject({ kind: expect.any(String) });
  },
  240_000,
);
