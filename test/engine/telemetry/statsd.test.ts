import { expect, test } from 'vitest';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import {
  inDatagrams,
  parseStatsdUrl,
  startStatsd,
  statsdLines,
} from '../../../src/engine/telemetry/statsd.ts';
import { rejection } from '../../support/codes.ts';
import { startStatsdServer } from '../../support/statsdServer.ts';

test('counters are sent as what they have grown by, histograms by their buckets, gauges as they are', async () => {
  const statsd = await startStatsdServer();
  const metrics = await openMetrics();
  metrics.count('feedctl_fanout_rows_total', 5);
  metrics.count('feedctl_bus_retries_total', 2, { queue: 'rows.live' });
  metrics.observe('feedctl_fanout_batch_seconds', 0.02);
  metrics.watch('feedctl_gateway_sockets', () => 3);
  const exporter = startStatsd(metrics, parseStatsdUrl(statsd.url), silentLog, { everyMs: 50 });
  await expect.poll(() => statsd.lines('feedctl_gateway_sockets')).toContain('feedctl_gateway_sockets:3|g');
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
  // The last figures are sent when the process ends.
  metrics.count('feedctl_fanout_rows_total', 1);
  await exporter.close();
  await expect
    .poll(() => statsd.lines('feedctl_fanout_rows_total').at(-1))
    .toBe('feedctl_fanout_rows_total:1|c');
  for (const datagram of statsd.datagrams) expect(Buffer.byteLength(datagram)).toBeLessThanOrEqual(1_432);
});

test('labels may be tags', async () => {
  const sample = { name: 'pushed', labels: { route: '/post/get/:id', status: '200' }, value: 2, grows: true };
  expect(statsdLines([sample], new Map(), true)).toEqual(['pushed:2|c|#route:/post/get/_id,status:200']);
  expect(statsdLines([sample], new Map(), false)).toEqual(['pushed._post_get__id.200:2|c']);
  expect(parseStatsdUrl('statsd://[::1]?tags=true')).toEqual({ host: '::1', port: 8125, tags: true });
});

test('a gauge below zero is a value and no change; what is no number is not sent', () => {
  const gauge = (value: number) => ({ name: 'lag', labels: {}, value, grows: false });
  expect(statsdLines([gauge(-2), gauge(Number.NaN)], new Map(), false)).toEqual(['lag:0|g', 'lag:-2|g']);
});

test('datagrams are filled and no line is split', () => {
  const lines = Array.from({ length: 100 }, (_, i) => `${'x'.repeat(40)}${i}:1|c`);
  const datagrams = inDatagrams(lines);
  expect(datagrams.join('\n').split('\n')).toEqual(lines);
  expect(datagrams.length).toBe(4);
});

test('what was not sent is sent later, and a server that is away does no harm', async () => {
  const metrics = await openMetrics();
  metrics.count('feedctl_fanout_rows_total', 5);
  const said: string[] = [];
  const log = { ...silentLog, warn: (_: object, message: string) => void said.push(message) };
  const target = { host: 'no-such-host.invalid', port: 1, tags: false };
  const exporter = startStatsd(metrics, target, log, { everyMs: 10 });
  await expect.poll(() => said).toEqual(['figures not sent to StatsD']);
  await exporter.close();
  expect(said).toHaveLength(1);
});

test.each([
  'localhost:8125',
  'http://localhost',
  'statsd://',
  'statsd://host/path',
  'statsd://host?tag=true',
])('%s is refused', async (url) => {
  expect(await rejection((async () => parseStatsdUrl(url))())).toMatchObject({ code: 'CONFIG_INVALID' });
});
