import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { ClusterStatus } from '../../src/engine/monitoring/status.ts';
import type { TopSnapshot } from '../../src/engine/monitoring/top/snapshot.ts';
import { follow } from '../../src/engine/social/follows.ts';
import { feedctl, json, temporaryDirectory, testRole } from '../support/cli.ts';
import { freshDatabase, testCluster } from '../support/cluster.ts';
import { testClient } from '../support/gateways.ts';
import { startKubernetesFake } from '../support/kubernetesFake.ts';
import { openProxy } from '../support/proxy.ts';
import { findServer } from '../support/server.ts';
import { httpClient } from '../support/spawnedCluster.ts';
import { openTerminal, type Terminal } from '../support/tmux.ts';

const BINARY = fileURLToPath(new URL('../../bin/run.js', import.meta.url));
const POSTS = 30;
const FOLLOWERS = 4;
const UNLIMITED = { FEEDCTL_USER_LIMIT: '0', FEEDCTL_USER_WRITE_LIMIT: '0', FEEDCTL_IP_LIMIT: '0' };

const tmux = await findServer('tmux');

/** Sum of a metric over its labels. */
async function metric(url: string, name: string, labels = ''): Promise<number> {
  const text = await (await fetch(new URL('/metrics', url))).text();
  const rows = text.split('\n').filter((row) => row.startsWith(name) && row.includes(labels));
  return rows.reduce((sum, row) => sum + Number(row.split(' ').at(-1)), 0);
}

const KNOWN_SIZE =
  'after a run of known size top, status and /metrics say what was done; then the roles are gone, and so is it';
test(KNOWN_SIZE, {
  timeout: 120_000,
}, async () => {
  const cluster = await testCluster();
  const at = { env: { FEEDCTL_DATABASE_URL: cluster.url, ...UNLIMITED } };
  const worker = await testRole(['worker', 'start', '--metrics-port', '0'], at);
  const gateway = await testRole(['gateway', 'start', '--port', '0'], at);
  const { metricsUrl } = JSON.parse(worker.stdout()) as { metricsUrl: string };
  const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
  const users = await cluster.users(FOLLOWERS + 1);
  const [author, ...followers] = users as [number, ...number[]];
  for (const followerId of followers) await follow(cluster, { followerId, followeeId: author });
  await cluster.settled();
  const client = await testClient(cluster, followers[0]!);
  await client.open(gatewayUrl);
  const http = httpClient(gatewayUrl, (await testClient(cluster, author)).token);
  for (let n = 0; n < POSTS; n += 1) await http.post(`post ${n}`);

  const rows = POSTS * FOLLOWERS;
  let snapshot: TopSnapshot | undefined;
  const counts = (rates: ClusterStatus['rates']) =>
    Object.fromEntries(Object.entries(rates).map(([name, rate]) => [name, rate.sliding['1h'].count]));
  const done = { created: POSTS, planned: POSTS, merged: 0, deliveries: rows, pushed: POSTS, errors: 0 };
  await expect
    .poll(
      async () => {
        snapshot = await json<TopSnapshot>(['top'], at);
        return counts(snapshot.figures!.rates);
      },
      { timeout: 60_000, interval: 200 },
    )
    .toEqual(done);
  const status = await json<ClusterStatus>(['status'], at);
  expect(counts(status.rates)).toEqual(done);
  expect(await metric(metricsUrl, 'feedctl_fanout_rows_total')).toBe(rows);
  expect(await metric(metricsUrl, 'feedctl_events_planned_total', 'post.created')).toBe(POSTS);
  expect(await metric(gatewayUrl, 'feedctl_gateway_pushed_total')).toBe(POSTS);
  expect(status.latencyMs['1h']!.rows).toBe(rows);
  const { figures, health, workers, gateways, backlog } = snapshot!;
  expect(figures).toMatchObject({ processes: 2, sockets: 1 });
  expect(figures!.series.deliveries.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(rows);
  expect(figures!.latencyMs['1h']!.p50).toBeLessThanOrEqual(figures!.latencyMs['1h']!.p99);
  expect(health).toEqual({ state: 'ok', problems: [], causes: [] });
  expect([workers!.length, gateways!.length, gateways![0]!.sockets]).toEqual([1, 1, 1]);
  expect(workers![0]!.rowsWritten).toBeLessThanOrEqual(rows);
  expect(backlog).toMatchObject({ messages: 0, etaSeconds: 0, deadLetters: 0 });

  // No terminal: one snapshot, whatever is not there.
  const once = await feedctl(['top', '--once'], at);
  expect({ status: once.status, stderr: once.stderr }).toEqual({ status: 0, stderr: '' });
  expect(once.stdout).toMatch(/^feedctl top test_[0-9a-f]{12} ● ok/);
  expect(once.stdout).toContain('online 1');
  for (const role of [worker, gateway]) {
    role.child.kill('SIGTERM');
    await role.ended;
  }
  const gone = await json<TopSnapshot>(['top'], at);
  expect(gone.figures).toMatchObject({ processes: 0, sockets: 0 });
  expect(counts(gone.figures!.rates).deliveries).toBe(0);
  expect(gone.health).toMatchObject({ state: 'down', problems: ['no worker runs', 'no gateway runs'] });
});

test('what cannot be is refused, and a database that is away is shown', async () => {
  const usage = await feedctl(['top', '--interval', '0.1', '--json']);
  expect(usage.status).toBe(2);
  expect(JSON.parse(usage.stdout)).toMatchObject({ error: { code: 'USAGE' } });
  const unrecorded = await feedctl(['top', '--record', 'x.ndjson']);
  expect([unrecorded.status, unrecorded.stderr]).toEqual([2, expect.stringContaining('needs a terminal')]);
  const damaged = await feedctl(['top', 'replay', BINARY, '--json']);
  expect(damaged.status).toBe(1);
  expect(JSON.parse(damaged.stdout)).toMatchObject({ error: { code: 'RECORDING_DAMAGED' } });
  const admin = await feedctl(['top', '--admin']);
  expect(admin.status).toBe(2);
  expect(admin.stderr).toContain('--admin needs a terminal');
  const away = await feedctl(['top', '--json'], {
    env: { FEEDCTL_DATABASE_URL: 'postgres://feeds@127.0.0.1:1/feeds' },
  });
  expect(away.status).toBe(0);
  const { health, figures } = JSON.parse(away.stdout) as TopSnapshot;
  expect(health.state).toBe('down');
  expect(health.problems[0]).toContain('DATABASE_UNREACHABLE');
  expect(figures).toBeNull();
});

const SILENT_DATABASE =
  'a database that says nothing: what is known is printed, ' +
  'each source that is missing is named, and it ends';
test(SILENT_DATABASE, async () => {
  const { url } = await freshDatabase();
  const proxy = await openProxy(url);
  proxy.stall();
  const at = { env: { FEEDCTL_DATABASE_URL: proxy.url } };
  const [text, value] = await Promise.all([feedctl(['top', '--once'], at), feedctl(['top', '--json'], at)]);
  const needed = ['figures', 'queues', 'roles', 'operations', 'celebrities', 'shards', 'moves', 'storage'];
  const missing = [...needed, 'database', 'events'];
  expect([text.status, value.status]).toEqual([0, 0]);
  expect(text.stdout).toContain('DOWN');
  const [, named] = text.stdout.split('NO ANSWER');
  for (const name of missing) expect(named).toMatch(new RegExp(`^ +${name} +never `, 'm'));
  const { sources, health } = JSON.parse(value.stdout) as TopSnapshot;
  expect(sources.filter(({ error }) => error).map(({ name }) => name)).toEqual(missing);
  expect(health.problems).toEqual([expect.stringMatching(/^DATABASE_UNREACHABLE \(all sources\): /)]);
});

describe.skipIf(!tmux)('at a terminal', () => {
  /** Around it: how it ended, and how it left the terminal. */
  const around = (node: string, flags = '') =>
    `"${process.execPath}" ${node} "${BINARY}" top ${flags}; echo "exit $?"; ` +
    `stty -a | tr ' ' '\\n' | grep -xE -e '-?(icanon|echo);?'; exec cat`;
  const open = (
    url: string,
    node = '',
    flags = '',
    size = { columns: 80, rows: 24 },
    env: Record<string, string> = {},
  ) =>
    openTerminal(tmux!, around(node, flags), {
      ...size,
      env: {
        ...{ FEEDCTL_DATABASE_URL: url, XDG_CONFIG_HOME: '/nonexistent', NO_COLOR: '1' },
        // No terminal begins with the pane that another one has shown last.
        XDG_STATE_HOME: '/dev/null',
        ...{ PATH: process.env.PATH ?? '', CI: '1' },
        ...env,
      },
    });
  const restored = async (terminal: Terminal, status: number) => {
    await terminal.shows(new RegExp(`exit ${status}\\s+icanon\\s+echo`));
    expect(await terminal.ask('#{alternate_on} #{cursor_flag}')).toBe('0 1');
    expect((await terminal.rows()).join('\n')).not.toMatch(/feedctl top test_|deliveries|Overview|backlog/);
  };
  /** Of the node process below the shell. */
  const pidOf = async (terminal: Terminal): Promise<number> => {
    const shell = await terminal.ask('#{pane_pid}');
    return Number(execFileSync('pgrep', ['-P', shell], { encoding: 'utf8' }).trim());
  };
  test('a database that says nothing any more keeps nobody who wants to leave', async () => {
    const { url } = await freshDatabase();
    const proxy = await openProxy(url);
    const ways: ((terminal: Terminal) => unknown)[] = [
      (terminal) => terminal.type('q'),
      (terminal) => terminal.type('C-c'),
      async (terminal) => process.kill(await pidOf(terminal), 'SIGTERM'),
    ];
    const terminals = await Promise.all(ways.map(() => open(proxy.url, '', '--interval 0.5')));
    for (const terminal of terminals) await terminal.shows('! no worker runs');
    proxy.stall();
    for (const terminal of terminals) await terminal.shows(/! TIMED_OUT.*sources/);
    await Promise.all(ways.map((leave, i) => leave(terminals[i]!)));
    for (const terminal of terminals) await restored(terminal, 0);
  });

  test('every change is typed, confirmed and done: mark, rebuild, scale, drain', {
    timeout: 120_000,
  }, async () => {
    const cluster = await testCluster();
    const at = { env: { FEEDCTL_DATABASE_URL: cluster.url } };
    const worker = await testRole(['worker', 'start'], at);
    const [author, reader] = (await cluster.users(2)) as [number, number];
    await follow(cluster, { followerId: reader, followeeId: author });
    await cluster.settled();
    const fake = await startKubernetesFake();
    onTestFinished(() => fake.close());
    const deployments = '/apis/apps/v1/namespaces/feeds/deployments';
    const labels = { 'app.kubernetes.io/name': 'feedctl', 'app.kubernetes.io/component': 'worker' };
    const metadata = { name: 'feedctl-worker', namespace: 'feeds', labels };
    const list = { status: 200, body: { items: [] } };
    fake.answer(deployments, { status: 200, body: { items: [{ metadata, spec: { replicas: 2 } }] } });
    fake.answer('/apis/keda.sh/v1alpha1/namespaces/feeds/scaledobjects', list);
    fake.answer('/apis/autoscaling/v2/namespaces/feeds/horizontalpodautoscalers', list);
    fake.answer(`${deployments}/feedctl-worker/scale`, { status: 200 });
    const KUBECONFIG = await fake.kubeconfig(await temporaryDirectory());
    const terminal = await open(cluster.url, '', '--admin --interval 0.5', undefined, {
      KUBECONFIG,
      FEEDCTL_NAMESPACE: 'feeds',
    });
    await terminal.shows('WORKERS 1');
    const answer = async (key: string, typed: string, question: string, done: RegExp) => {
      await terminal.type(key, ...typed, ...(typed ? ['Enter'] : []));
      await terminal.shows(question);
      await terminal.type('y');
      await terminal.shows(done);
    };
    const pinned = async () =>
      (await cluster.db.query('select 1 from celebrities where user_id = $1', [author])).rowCount;
    await answer('M', String(author), `Mark ${author} as a celebrity`, /is marked: \d+ rows? removed/);
    expect(await pinned()).toBe(1);
    await answer(
      'B',
      String(reader),
      `Rebuild the feed of user ${reader}`,
      /holds 0 rows: 0 added, 0 removed/,
    );
    await answer('S', '5', 'Scale to 5 workers?', /gets 5 pods, from 2/);
    expect(fake.seen.at(-1)).toMatchObject({
      method: 'PATCH',
      path: `${deployments}/feedctl-worker/scale`,
      body: { spec: { replicas: 5 } },
    });
    await terminal.type('2');
    await answer('D', '', 'NO OTHER RUNS: posts wait.', /the worker has left after [\d.]+ s/);
    expect((await worker.ended).status).toBe(0);
    await terminal.type('q');
    await restored(terminal, 0);
  });

  test('keys, a cluster that changes, a database that goes and comes, and every way out', {
    timeout: 120_000,
  }, async () => {
    const cluster = await testCluster();
    const proxy = await openProxy(cluster.url);
    const at = { env: { FEEDCTL_DATABASE_URL: cluster.url } };
    const recording = join(await temporaryDirectory(), 'top.ndjson.gz');
    const [, terminal, interrupted, terminated, crashed] = await Promise.all([
      testRole(['worker', 'start'], at),
      open(proxy.url, '', `--admin --interval 0.5 --record ${recording}`),
      open(cluster.url),
      open(cluster.url),
      open(
        cluster.url,
        `--import 'data:text/javascript,process.on("SIGUSR2",()=>{throw new Error("planted fault")})'`,
      ),
    ]);
    await terminal.shows('WORKERS 1');
    await terminal.shows('! no gateway runs');
    // Under CI too, and without colours.
    await terminal.type('2');
    await terminal.shows('2 Wor 1');
    await terminal.type('/', 'z', 'z');
    await terminal.shows('nothing matches "zz"');
    await terminal.type('Escape', 'Enter');
    await terminal.shows('rows written');
    await terminal.type('Escape');
    await terminal.shows('› ');
    await terminal.type('1', 'P');
    await terminal.shows('Pause the live lane');
    await terminal.type('n');
    await terminal.shows('not confirmed: nothing was changed');
    await terminal.type('P', 'y');
    await terminal.shows('the live lane is paused; 1 of 1 worker');
    await terminal.shows('! the live lane is paused by');
    const { rows } = await cluster.db.query<{ paused_at: Date | null }>(
      "select paused_at from fanout_lanes where lane = 'live'",
    );
    expect(rows[0]!.paused_at).not.toBeNull();
    await terminal.type('P', 'y');
    await terminal.shows('the live lane is resumed');

    proxy.cut();
    await terminal.shows(/▼ DOWN.* as of [\s\S]*! DATABASE_UNREACHABLE/);
    proxy.open();
    await terminal.shows(/▼ DOWN +ADMIN[\s\S]*! no gateway runs/);
    await terminal.resize(60, 20);
    await terminal.shows(/ 0 All .*1 Queues 5 .*2 Workers .*›/);
    expect((await terminal.rows()).length).toBe(20);
    await terminal.resize(150, 40);
    // The frame of the narrow screen has the first tabs too.
    await terminal.shows(/ 0 All {2}1 Queues 5 {2}2 Workers .* p Problems/);
    await terminal.type(':', ...'datab', 'Enter');
    await terminal.shows(/sessions +\d+ of \d+/);
    // A press of the left button at the ninth cell of the tabs.
    const tabs = (await terminal.rows()).findIndex((row) => row.includes(' 9 Database '));
    await terminal.type(
      '-H',
      ...Buffer.from(`\u001b[<0;9;${tabs + 1}M`)
        .toString('hex')
        .match(/../g)!,
    );
    await terminal.shows(' 1 Queues 5 ');
    // Each key goes further back.
    await expect
      .poll(
        async () => {
          await terminal.type('[');
          return (await terminal.rows()).join('\n');
        },
        { interval: 500 },
      )
      .toMatch(/ AGO +\d\d:/);
    await terminal.type('?');
    await terminal.shows('this help');
    await terminal.type('Escape', 'q');
    await restored(terminal, 0);
    const replayed = await json<{ snapshots: number; cut: boolean; last: TopSnapshot }>(
      ['top', 'replay', recording],
      at,
    );
    expect(replayed).toMatchObject({ cut: false, last: { health: { state: 'down' } } });
    expect(replayed.last.database!.maxSessions).toBeGreaterThan(0);
    expect(replayed.snapshots).toBeGreaterThan(1);

    for (const other of [interrupted, terminated, crashed]) await other.shows('WORKERS 1');
    await interrupted.type('C-c');
    await restored(interrupted, 0);
    process.kill(await pidOf(terminated), 'SIGTERM');
    await restored(terminated, 0);
    process.kill(await pidOf(crashed), 'SIGUSR2');
    await restored(crashed, 1);
    expect((await crashed.rows()).join('\n')).toContain('planted fault');
  });
});
