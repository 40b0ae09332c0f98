import { StatsD } from 'hot-shots';
import { expect, test } from 'vitest';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics, type Sample } from '../../../src/engine/telemetry/metrics.ts';
import { parseStatsdUrl, sendGauges, sendGrowth, startStatsd } from '../../../src/engine/telemetry/statsd.ts';
import { rejection } from '../../support/codes.ts';
import { startStatsdServer } from '../../support/statsdServer.ts';

const PLAIN = { tags: false, prefix: '', instance: 'me' };
const TAGGED = { ...PLAIN, tags: true };
const SAMPLE: Sample = { name: 'rows', labels: {}, value: 2, grows: true, ofCluster: false };

function linesOf(sample: Sample, naming: typeof PLAIN): string[] {
  const client = new StatsD({ mock: true });
  sendGauges(client, [sample], naming);
  sendGrowth(client, [sample], new Map(), naming);
  return client.mockBuffer!;
}

const KINDS = 'counters are sent as what they have grown by, histograms by their buckets, gauges as they are';
test(KINDS, async () => {
  const statsd = await startStatsdServer();
  const metrics = await openMetrics();
  metrics.count('feedctl_fanout_rows_total', 5);
  metrics.count('feedctl_bus_retries_total', 2, { queue: 'rows.live' });
  metrics.observe('feedctl_fanout_batch_seconds', 0.02);
  metrics.watch('feedctl_gateway_sockets', () => 3);
  const target = parseStatsdUrl(`${statsd.url}?instance=one`);
  const exporter = startStatsd(metrics, target, silentLog, { everyMs: 50 });
  await expect
    .poll(() => statsd.lines('feedctl_gateway_sockets'))
    .toContain('feedctl_gateway_sockets.one:3|g');
  metrics.count('feedctl_fanout_rows_total', 4);
  await expect
    .poll(() => statsd.lines('feedctl_fanout_rows_total'))
    .toEqual(['feedctl_fanout_rows_total:5|c', 'feedctl_fanout_rows_total:4|c']);
  expect(statsd.lines('feedctl_bus_retries_total')).toEqual(['feedctl_bus_retries_total.rows_live:2|c']);
  expect(statsd.lines('feedctl_fanout_batch_seconds_bucket.0_01:')).toEqual([]);
  expect(statsd.lines('feedctl_fanout_batch_seconds_bucket.0_025:')).toEqual([
    'feedctl_fanout_batch_seconds_bucket.0_025:1|c',
  ]);
  expect(statsd.lines('feedctl_fanout_batch_seconds_sum')).toEqual([
    'feedctl_fanout_batch_seconds_sum:0.02|c',
  ]);
  expect(statsd.lines('process_cpu_seconds_total').length).toBeGreaterThan(0);
  // The last metrics are sent when the process ends.
  metrics.count('feedctl_fanout_rows_total', 1);
  await exporter.close();
  await expect
    .poll(() => statsd.lines('feedctl_fanout_rows_total').at(-1))
    .toBe('feedctl_fanout_rows_total:1|c');
  for (const datagram of statsd.datagrams) expect(Buffer.byteLength(datagram)).toBeLessThanOrEqual(1_432);
});

test('labels may be tags', async () => {
  const sample = { ...SAMPLE, name: 'pushed', labels: { route: '/post/get/:id', status: '200' } };
  expect(linesOf(sample, TAGGED)).toEqual(['pushed:2|c|#route:/post/get/_id,status:200']);
  expect(linesOf(sample, PLAIN)).toEqual(['pushed._post_get__id.200:2|c']);
  expect(parseStatsdUrl('statsd://[::1]?tags=true&instance=w.1&prefix=eu.')).toEqual({
    ...{ host: '::1', port: 8125, tags: true, instance: 'w.1', prefix: 'eu.' },
  });
});

test('two processes tell of themselves under two names, and of the cluster under one', () => {
  const gauge = { ...SAMPLE, name: 'sockets', grows: false };
  const [one, other] = [
    { ...PLAIN, instance: 'one' },
    { ...PLAIN, instance: 'other.host', prefix: 'eu.' },
  ];
  expect(linesOf(gauge, one)).toEqual(['sockets.one:2|g']);
  expect(linesOf(gauge, other)).toEqual(['eu.sockets.other_host:2|g']);
  expect(linesOf(gauge, { ...one, tags: true })).toEqual(['sockets:2|g|#instance:one']);
  expect(linesOf({ ...gauge, ofCluster: true }, one)).toEqual(['sockets:2|g']);
  // The server adds counters up.
  expect(linesOf(SAMPLE, one)).toEqual(['rows:2|c']);
  const [mine, again] = [parseStatsdUrl('statsd://a'), parseStatsdUrl('statsd://a?instance=again')];
  expect(mine.instance).toContain(String(process.pid));
  expect(again.instance).toBe('again');
});

test('a gauge below zero is a value and no change; what is no number is not sent', () => {
  const gauge = { ...SAMPLE, name: 'lag', grows: false, ofCluster: true };
  expect(linesOf({ ...gauge, value: -2 }, PLAIN)).toEqual(['lag:0|g', 'lag:-2|g']);
  expect(linesOf({ ...gauge, value: Number.NaN }, PLAIN)).toEqual([]);
});

test('datagrams are filled and no line is split', async () => {
  const statsd = await startStatsdServer();
  const metrics = await openMetrics();
  const types = Array.from({ length: 100 }, (_, i) => `${'x'.repeat(40)}${i}`);
  for (const type of types) metrics.count('feedctl_events_planned_total', 1, { type });
  const exporter = startStatsd(metrics, parseStatsdUrl(statsd.url), silentLog);
  await exporter.close();
  const name = 'feedctl_events_planned_total';
  await expect.poll(() => statsd.lines(`${name}.x`)).toEqual(types.map((type) => `${name}.${type}:1|c`));
  const filled = statsd.datagrams.filter((datagram) => datagram.startsWith(name));
  for (const datagram of filled.slice(0, -1)) {
    expect(Buffer.byteLength(datagram)).toBeLessThanOrEqual(1_432);
    expect(Buffer.byteLength(datagram)).toBeGreaterThan(1_300);
  }
});

test('a counter that was sent is not sent again where another datagram could not be', async () => {
  const statsd = await startStatsdServer();
  const metrics = await openMetrics();
  metrics.count('feedctl_fanout_rows_total', 5);
  // Longer than the maximum of a datagram.
  metrics.count('feedctl_events_planned_total', 1, { type: 'x'.repeat(70_000) });
  const lines: string[] = [];
  const keep = (_: object, message: string) => void lines.push(message);
  const log = { ...silentLog, warn: keep, info: keep };
  const exporter = startStatsd(metrics, parseStatsdUrl(statsd.url), log, { everyMs: 20 });
  const rounds = () => statsd.lines('process_resident_memory_bytes').length;
  await expect.poll(rounds).toBeGreaterThan(2);
  await exporter.close();
  expect(lines).toEqual(['metrics not sent to StatsD', 'metrics are sent to StatsD again']);
  expect(statsd.lines('feedctl_fanout_rows_total')).toEqual(['feedctl_fanout_rows_total:5|c']);
});

test('what was not sent is sent later, and a server that is away does no harm', async () => {
  const metrics = await openMetrics();
  metrics.count('feedctl_fanout_rows_total', 5);
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (_: object, message: string) => void warnings.push(message) };
  const target = { ...PLAIN, host: 'no-such-host.invalid', port: 1 };
  const exporter = startStatsd(metrics, target, log, { everyMs: 10 });
  await expect.poll(() => warnings).toEqual(['metrics not sent to StatsD']);
  await exporter.close();
  expect(warnings).toHaveLength(1);
});

test.each([
  'localhost:8125',
  'http://localhost',
  'statsd://',
  'statsd://host/path',
  'statsd://host?tag=true',
  'statsd://host?prefix=a:b',
  'statsd://host?instance=',
])('%s is refused', async (url) => {
  expect(await rejection((async () => parseStatsdUrl(url))())).toMatchObject({ code: 'CONFIG_INVALID' });
});
