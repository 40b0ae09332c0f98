import { expect, test } from 'vitest';
import { emptyDatabase, feedctl, json, sql, start, waitUntil } from '../support/cli.ts';

test('migrate, worker and gateway on a database of somebody else, each a process of its own', async () => {
  const url = await emptyDatabase('cli_external');
  const env = { FEEDCTL_DATABASE_URL: url };
  const at = { env };
  const planned = await json<{ pending: string[] }>(['migrate', '--dry-run'], at);
  expect(planned).toMatchObject({ applied: [], dryRun: true });
  expect(planned.pending.length).toBeGreaterThan(0);
  expect(await sql(url, `select 1 from pg_tables where schemaname = 'public'`)).toEqual([]);
  // Two concurrent calls: one applies the migrations, both succeed.
  const both = await Promise.all([1, 2].map(() => json<{ applied: string[] }>(['migrate'], at)));
  expect(both.map(({ applied }) => applied.length).sort()).toEqual([0, planned.pending.length]);
  expect(await json(['migrate'], at)).toEqual({ applied: [], pending: [], dryRun: false });

  const worker = start(['worker', 'start', '--metrics-port', '0', '--json'], at);
  const gateway = start(['gateway', 'start', '--port', '0', '--json'], at);
  await worker.printed(/"ready": true[\s\S]*\}\n/);
  await gateway.printed(/"ready": true[\s\S]*\}\n/);
  const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
  const { metricsUrl } = JSON.parse(worker.stdout()) as { metricsUrl: string };
  expect(metricsUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  for (const role of [gatewayUrl, metricsUrl]) {
    for (const path of ['/readyz', '/healthz', '/metrics'])
      expect((await fetch(role + path)).status, role + path).toBe(200);
  }

  for (const id of ['1', '2']) await json(['user', 'create', '--id', id], at);
  await json(['follow', 'create', '2', '1'], at);
  const watch = start(['feed', 'watch', '2', '-n', '2', '--json'], at);
  await waitUntil(() => watch.stderr().includes('Watching'));
  const first = await json<{ id: number }>(['post', 'create', '1', 'from the command line'], at);
  const { token } = await json<{ token: string }>(['user', 'token', '1'], at);
  const answer = await fetch(`${gatewayUrl}/post/create`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ text: 'from the gateway' }),
  });
  expect(answer.status).toBe(201);
  const second = (await answer.json()) as { id?: string; postId?: string };
  const watched = (await watch.ended).stdout.trim().split('\n');
  expect(watched.map((line) => (JSON.parse(line) as { postText: string }).postText)).toEqual([
    'from the command line',
    'from the gateway',
  ]);
  const feed = async () =>
    (await json<{ items: { postId: number; body: string; source: string }[] }>(['feed', 'show', '2'], at))
      .items;
  await waitUntil(async () => (await feed()).length === 2);
  expect(await feed()).toMatchObject([
    { body: 'from the gateway', source: 'pushed' },
    { postId: first.id, source: 'pushed' },
  ]);
  expect(second).toMatchObject({ id: expect.any(String) });
  const metrics = await (await fetch(`${metricsUrl}/metrics`)).text();
  expect(metrics).toMatch(/^feedctl_fanout_rows_total 2$/m);
  expect(metrics).toMatch(/^feedctl_events_planned_total\{type="post.created"\} 2$/m);
  expect(metrics).toMatch(/^feedctl_dependency_circuit_state\{dependency="database"\} 0$/m);

  // A worker is killed in the middle of its work, and the next one finishes that work.
  const backlog = 200;
  const posts = Array.from({ length: backlog }, (_, i) =>
    fetch(`${gatewayUrl}/post/create`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ text: `post ${i}` }),
    }),
  );
  await Promise.race(posts);
  worker.child.kill('SIGKILL');
  const created = (await Promise.all(posts)).filter((reply) => reply.status === 201).length;
  expect((await worker.ended).status).toBe('SIGKILL');
  const status = JSON.parse((await feedctl(['status', '--json'], at)).stdout) as { workers: unknown[] };
  expect(status, 'known to be dead at once').toMatchObject({ ready: false, workers: [{ ready: false }] });
  const successor = start(['worker', 'start', '--json'], at);
  await successor.printed(/"ready": true/);
  const pushed = async () =>
    Number((await sql<{ n: string }>(url, 'select count(*) as n from feed_items'))[0]!.n);
  await waitUntil(async () => (await pushed()) === created + 2);
  expect(await json(['feed', 'verify', '--all'], at)).toMatchObject({ mismatched: 0, asymmetric: 0 });

  gateway.child.kill('SIGTERM');
  successor.child.kill('SIGTERM');
  expect((await gateway.ended).status).toBe(0);
  expect((await successor.ended).status).toBe(0);
  expect(JSON.parse(gateway.stdout())).toMatchObject({ ready: true });
  expect(
    await sql(
      url,
      `select 1 from pg_stat_activity where datname = 'cli_external' and application_name like 'feedctl%'`,
    ),
  ).toEqual([]);
});
