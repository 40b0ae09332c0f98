import { readFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { openGuard } from '../../../src/engine/resilience/guard.ts';
import { METRICS, type Metrics, openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { startMetricsServer } from '../../../src/engine/telemetry/metricsServer.ts';
import { rejection } from '../../support/codes.ts';

/** Returns the lines of one metric, without comments. */
async function samples(metrics: Metrics, name: string): Promise<string[]> {
  const text = await metrics.text();
  return text.split('\n').filter((line) => line.startsWith(name));
}

test('docs/reference/metrics.md has a row for every metric that is exposed, and for no other', async () => {
  const metrics = await openMetrics();
  const exposed = [...(await metrics.text()).matchAll(/^# TYPE (feedctl_\w+) (\w+)$/gm)].map(
    ([, name, type]) => `${name} ${type}`,
  );
  const page = readFileSync(new URL('../../../docs/reference/metrics.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `(feedctl_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$/gm)];
  expect(rows.map(([, name, type]) => `${name} ${type}`).sort()).toEqual(exposed.sort());
  for (const [, name, , labels, help] of rows) {
    const row = METRICS[name as keyof typeof METRICS];
    expect(labels!.match(/\w+/g) ?? []).toEqual(row.labels);
    expect(help).toBe(row.help);
  }
});

test('counts, observations and what is read when asked', async () => {
  const metrics = await openMetrics();
  metrics.count('feedctl_fanout_rows_total', 3);
  metrics.count('feedctl_fanout_rows_total', 4);
  metrics.count('feedctl_bus_retries_total', 1, { queue: 'events' });
  metrics.observe('feedctl_fanout_batch_seconds', 0.02);
  expect(await samples(metrics, 'feedctl_fanout_rows_total')).toEqual(['feedctl_fanout_rows_total 7']);
  // Known labels are exported from the start: increase() of Prometheus does not see a first value.
  expect(await samples(metrics, 'feedctl_bus_retries_total')).toEqual([
    'feedctl_bus_retries_total{queue="events"} 1',
    'feedctl_bus_retries_total{queue="events.bulk"} 0',
    'feedctl_bus_retries_total{queue="rows.live"} 0',
    'feedctl_bus_retries_total{queue="rows.bulk"} 0',
    'feedctl_bus_retries_total{queue="cleanup"} 0',
    'feedctl_bus_retries_total{queue="live"} 0',
  ]);
  expect(await samples(metrics, 'feedctl_bus_dead_letters_total')).toHaveLength(6);
  expect(await samples(metrics, 'feedctl_events_swept_total')).toEqual(['feedctl_events_swept_total 0']);
  expect(await samples(metrics, 'feedctl_fanout_latency_seconds_count')).toEqual([
    'feedctl_fanout_latency_seconds_count{lane="live"} 0',
    'feedctl_fanout_latency_seconds_count{lane="bulk"} 0',
  ]);
  const guard = openGuard({ dependency: 'broker', metrics });
  onTestFinished(() => guard.close());
  expect(await samples(metrics, 'feedctl_dependency_circuit_openings_total')).toEqual([
    'feedctl_dependency_circuit_openings_total{dependency="broker"} 0',
  ]);
  expect(await samples(metrics, 'feedctl_fanout_batch_seconds_bucket{le="0.01"}')).toEqual([
    'feedctl_fanout_batch_seconds_bucket{le="0.01"} 0',
  ]);
  expect(await samples(metrics, 'feedctl_fanout_batch_seconds_bucket{le="0.025"}')).toEqual([
    'feedctl_fanout_batch_seconds_bucket{le="0.025"} 1',
  ]);
  // Metrics without a reader are not exported: a 0 would look like a measurement.
  expect(await samples(metrics, 'feedctl_gateway_live')).toEqual([]);
  let sockets = 2;
  const unwatch = metrics.watch('feedctl_gateway_sockets', () => sockets);
  metrics.watch('feedctl_gateway_sockets', () => 10);
  expect(await samples(metrics, 'feedctl_gateway_sockets')).toEqual(['feedctl_gateway_sockets 12']);
  sockets = 5;
  expect(await samples(metrics, 'feedctl_gateway_sockets')).toEqual(['feedctl_gateway_sockets 15']);
  unwatch();
  expect(await samples(metrics, 'feedctl_gateway_sockets')).toEqual(['feedctl_gateway_sockets 10']);
  const unknown = metrics.watch('feedctl_workers', () => undefined);
  expect(await samples(metrics, 'feedctl_workers')).toEqual([]);
  unknown();
  // A counter keeps its value after its reader has ended.
  let pushed = 7;
  const stop = metrics.watch('feedctl_gateway_pushed_total', () => pushed);
  stop();
  stop();
  pushed = 0;
  expect(await samples(metrics, 'feedctl_gateway_pushed_total')).toEqual(['feedctl_gateway_pushed_total 7']);
});

test('every process, and every test, has a registry of its own', async () => {
  const [one, other] = [await openMetrics(), await openMetrics()];
  one.count('feedctl_fanout_rows_total', 3);
  expect(await samples(other, 'feedctl_fanout_rows_total')).toEqual(['feedctl_fanout_rows_total 0']);
});

test('a role without a gateway serves them, its health and whether it is ready', async () => {
  const metrics = await openMetrics();
  let ready = true;
  const server = await startMetricsServer(
    metrics,
    async () => {
      if (!ready) throw new FeedctlError('DATABASE_UNREACHABLE', 'no answer');
    },
    { host: '127.0.0.1', port: 0 },
  );
  onTestFinished(() => server.close());
  const get = async (path: string) => {
    const response = await fetch(server.url + path);
    return { status: response.status, body: await response.text() };
  };
  expect((await get('/metrics')).body).toContain('feedctl_fanout_rows_total 0');
  expect((await get('/metrics')).body).toContain('process_cpu_seconds_total');
  expect((await get('/healthz')).status).toBe(200);
  expect((await get('/readyz')).status).toBe(200);
  ready = false;
  expect(await get('/readyz')).toMatchObject({
    status: 503,
    body: expect.stringContaining('DATABASE_UNREACHABLE'),
  });
  expect((await get('/healthz')).status).toBe(200);
  expect((await get('/nothing')).status).toBe(404);
  const taken = { host: '127.0.0.1', port: Number(new URL(server.url).port) };
  expect(await rejection(startMetricsServer(metrics, async () => {}, taken))).toMatchObject({
    code: 'PORT_TAKEN',
  });
});
