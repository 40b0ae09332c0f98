import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Running, temporaryDirectory, testRole } from '../support/cli.ts';
import { startCollector, wayOf } from '../support/collector.ts';
import { FeedClient } from '../support/feedClient.ts';
import { promQuery, startPrometheus } from '../support/prometheus.ts';
import { findServer } from '../support/server.ts';
import { FOUNDATIONS, spawnedCluster } from '../support/spawnedCluster.ts';
import { startStatsdServer } from '../support/statsdServer.ts';

const prometheus = await findServer('prometheus');
const on = FOUNDATIONS[1];
const [POSTS, FOLLOWERS] = [5, 40];
const [AUTHOR, READER] = [1, 2];
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const KILLED = 'c0ffee3577b34da6a3ce929d0e0e4736';
const WAY = [
  ' > POST /post/create',
  'POST /post/create > send events',
  'plan post > write rows',
  'send events > plan post',
  'write rows > push post',
];
const DASHBOARD = new URL('../../manifests/components/monitoring/dashboard.json', import.meta.url);

/** Returns the lines of a role's log with this message that name the post. */
const logged = (role: Running, message: string, postId: number) =>
  role
    .stderr()
    .split('\n')
    .filter((line) => line.includes(`"msg":"${message}"`) && line.includes(String(postId)));

test.skipIf(!prometheus || on.missing)(
  'processes over a broker: one trace, figures of what was done, a line of the log for each step, ' +
    'and an end without a collector',
  async () => {
    const directory = await temporaryDirectory();
    const [cluster, collector, statsd] = [
      await spawnedCluster(on),
      await startCollector(),
      await startStatsdServer(),
    ];
    Object.assign(cluster.at.env, collector.env, {
      FEEDCTL_TRUST_TRACEPARENT: 'true',
      // A process that waited for a silent collector would run longer than this test.
      OTEL_EXPORTER_OTLP_TIMEOUT: '600000',
    });
    const graph = join(directory, 'graph');
    const followers = Array.from({ length: FOLLOWERS }, (_, i) => READER + i);
    await writeFile(graph, followers.map((follower) => `${follower} ${AUTHOR}\n`).join(''));
    await cluster.json('seed', 'graph', graph);

    const reporting = ['--log-level', 'debug', '--statsd-url', statsd.url];
    const worker = await testRole(['worker', 'start', '--metrics-port', '0', ...reporting], cluster.at);
    const gateway = await testRole(['gateway', 'start', '--port', '0', ...reporting], cluster.at);
    const { metricsUrl } = JSON.parse(worker.stdout()) as { metricsUrl: string };
    const { gatewayUrl } = JSON.parse(gateway.stdout()) as { gatewayUrl: string };
    const watching = await startPrometheus(directory, {
      worker: new URL(metricsUrl).host,
      gateway: new URL(gatewayUrl).host,
    });
    onTestFinished(() => watching.stop());
    const client = new FeedClient(READER, await cluster.token(READER));
    onTestFinished(() => client.stop());
    await client.open(gatewayUrl);

    const token = await cluster.token(AUTHOR);
    const makePost = async (trace?: string) => {
      const response = await fetch(`${gatewayUrl}/post/create`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          ...(trace && { traceparent: `00-${trace}-00f067aa0ba902b7-01` }),
        },
        body: '{"text":"hello"}',
      });
      expect(response.status).toBe(201);
    };
    await makePost(TRACE);
    for (let i = 1; i < POSTS; i += 1) await makePost();
    await expect.poll(() => client.posts).toHaveLength(POSTS);

    // One trace has spans of both processes. Its rows are in two partitions, and may be in two batches.
    await expect.poll(() => [...new Set(wayOf(collector.traceOf(TRACE)))]).toEqual(WAY);
    const services = collector.traceOf(TRACE).map(({ name, service }) => `${name}: ${service}`);
    expect(services).toContain('send events: feedctl-gateway');
    expect(services).toContain('write rows: feedctl-worker');
    expect(services).toContain('push post: feedctl-gateway');

    const query = async (expression: string) =>
      (await promQuery(watching.url, expression)).map((one) => one.value);
    for (const [expression, value] of [
      ['sum(up)', 2],
      ['sum(feedctl_fanout_rows_total)', POSTS * FOLLOWERS],
      ['sum(feedctl_gateway_pushed_total)', POSTS],
      ['sum(feedctl_events_planned_total{type="post.created"})', POSTS],
      ['sum(feedctl_gateway_request_seconds_count{route="/post/create",status="201"})', POSTS],
      ['sum(feedctl_gateway_sockets)', 1],
      ['sum(feedctl_gateway_live)', 1],
      ['sum(feedctl_workers)', 1],
      ['sum(feedctl_queue_messages)', 0],
      ['count(feedctl_queue_oldest_seconds)', 6],
    ] as const)
      await expect.poll(() => query(expression), { message: expression }).toEqual([value]);
    const { panels } = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as {
      panels: { targets?: { expr: string }[] }[];
    };
    for (const { expr } of panels.flatMap(({ targets = [] }) => targets))
      await query(
        expr
          .replaceAll('$__rate_interval', '1m')
          .replaceAll('$job', 'worker|gateway')
          .replaceAll('$namespace', '.*'),
      );

    const [post] = client.posts as [number];
    expect(logged(gateway, 'post committed', post)).toHaveLength(1);
    expect(logged(gateway, 'events dispatched', post)).toHaveLength(1);
    await expect.poll(() => logged(worker, 'events planned', post)).toHaveLength(1);
    await expect.poll(() => logged(worker, 'rows written', post).length).toBeGreaterThan(0);
    await expect.poll(() => logged(gateway, 'posts pushed', post).length).toBeGreaterThan(0);

    // A post whose event waited at the broker while its worker was killed is processed by the next one.
    worker.child.kill('SIGKILL');
    await worker.ended;
    await makePost(KILLED);
    const next = await testRole(['worker', 'start', ...reporting], cluster.at);
    await expect.poll(() => client.posts).toHaveLength(POSTS + 1);
    await expect.poll(() => [...new Set(wayOf(collector.traceOf(KILLED)))]).toEqual(WAY);

    collector.mode.answer = 'hang';
    for (const role of [gateway, next]) {
      role.child.kill('SIGTERM');
      expect(await role.ended).toMatchObject({ status: 0 });
    }
    // The remaining counts are sent at the end. Those of the killed process may be lost.
    const pushed = () =>
      statsd
        .lines('feedctl_gateway_pushed_total:')
        .reduce((sum, line) => sum + Number(/:(\d+)\|c$/.exec(line)![1]), 0);
    await expect.poll(pushed).toBe(POSTS + 1);
  },
);
