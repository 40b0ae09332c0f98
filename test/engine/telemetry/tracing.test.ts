import { expect, onTestFinished, test, vi } from 'vitest';
import { startWorker } from '../../../src/engine/fanout/worker.ts';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import type { FeedctlError } from '../../../src/engine/model/errors.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { type Log, silentLog } from '../../../src/engine/telemetry/log.ts';
import { openOtel } from '../../../src/engine/telemetry/otel/otel.ts';
import { openTelemetry, type Telemetry } from '../../../src/engine/telemetry/telemetry.ts';
import {
  beginBatch,
  decodeTraces,
  encodeTraces,
  MAX_TRACES,
  type Tracing,
} from '../../../src/engine/telemetry/tracing.ts';
import { testCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { startCollector, wayOf } from '../../support/collector.ts';
import { testClient, testGateway } from '../../support/gateways.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = `00-${TRACE}-00f067aa0ba902b7-01`;
const WHAT = { service: 'test', version: '1' };

/** Opens traces as in a process with these variables. */
function openWith(env: Record<string, string>, log: Log = silentLog): Tracing {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  try {
    return openOtel(WHAT, log);
  } finally {
    vi.unstubAllEnvs();
  }
}

function tracingTo(env: Record<string, string>): Tracing {
  const tracing = openWith(env);
  onTestFinished(() => tracing.close());
  return tracing;
}

/** Returns a log that keeps its warnings and its other lines. */
function keepingLog() {
  const warnings: { message: string; reason?: string; suppressed?: number }[] = [];
  const infos: string[] = [];
  const log: Log = {
    ...silentLog,
    warn: (fields, message) => void warnings.push({ ...fields, message }),
    info: (_, message) => void infos.push(message),
  };
  return { log, warnings, infos };
}

/** Starts a cluster on the queue in the database, with an author and a reader who is online. */
async function traced(tracing: Tracing) {
  const cluster = { ...(await testCluster()), tracing };
  const worker = await startWorker({ ...cluster, version: 'test' });
  onTestFinished(() => worker.stop(5_000));
  const gateway = await testGateway(cluster);
  const [author, reader] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: reader, followeeId: author });
  await cluster.settled();
  const client = await testClient(cluster, reader);
  await client.open(gateway.url);
  const token = await signToken(cluster.db, author);
  const post = async (headers: Record<string, string> = {}) => {
    const response = await fetch(`${gateway.url}/post/create`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
      body: '{"text":"hello"}',
    });
    return (await response.json()) as { id: string };
  };
  return { cluster, author, client, post };
}

const WAY = [
  ' > POST /post/create',
  'POST /post/create > send events',
  'plan post > write rows',
  'send events > plan post',
  'write rows > push post',
];

test('a post is one trace from the request to the socket, and batches link to it', async () => {
  const collector = await startCollector();
  const { client, post } = await traced(tracingTo({ ...collector.env, FEEDCTL_TRUST_TRACEPARENT: 'true' }));
  const { id } = await post({ traceparent: PARENT });
  await expect.poll(() => client.posts).toContain(Number(id));
  await expect.poll(() => wayOf(collector.traceOf(TRACE))).toEqual(WAY);
  const push = collector.traceOf(TRACE).find(({ name }) => name === 'push post')!;
  expect(push.attributes).toMatchObject({ 'feedctl.post.id': id, 'feedctl.sockets': 1 });
  const request = collector.traceOf(TRACE).find(({ name }) => name.startsWith('POST'))!;
  expect(request.attributes).toMatchObject({ 'feedctl.post.id': id, 'http.response.status_code': 201 });
  expect(request.parentSpanId).toBe('00f067aa0ba902b7');
  for (const batch of ['process events', 'process rows.live', 'process live'])
    await expect
      .poll(() => collector.spans.filter(({ name }) => name === batch).flatMap(({ links }) => links))
      .toContain(TRACE);
  // A request without a traceparent begins a trace; one that is not sampled has none.
  await post({ traceparent: PARENT.replace(/01$/, '00') });
  await post();
  await expect.poll(() => collector.spans.filter(({ name }) => name === 'push post')).toHaveLength(2);
  expect(collector.traceOf(TRACE)).toHaveLength(WAY.length);
});

test('a stranger decides neither what is sampled nor which trace it is', async () => {
  const collector = await startCollector();
  const { client, post } = await traced(tracingTo(collector.env));
  const { id } = await post({ traceparent: PARENT.replace(/01$/, '00') });
  await post({ traceparent: 'rubbish' });
  const requests = () => collector.spans.filter(({ name }) => name.startsWith('POST'));
  await expect.poll(requests).toHaveLength(2);
  const [request] = requests().filter(({ attributes }) => attributes['feedctl.post.id'] === id);
  expect(request).toMatchObject({ links: [TRACE] });
  expect(request!.traceId).not.toBe(TRACE);
  await expect.poll(() => client.posts).toContain(Number(id));

  const off = await startCollector();
  const sampler = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' };
  const unsampled = tracingTo({ ...off.env, ...sampler });
  const other = await traced(unsampled);
  const asked = await other.post({ traceparent: PARENT });
  await expect.poll(() => other.client.posts).toContain(Number(asked.id));
  await unsampled.close();
  expect(off.requests).toEqual([]);
});

test('a collector that is too slow is spoken of, and not for every span', async () => {
  const collector = await startCollector();
  collector.mode.answer = 'hang';
  const { log, warnings } = keepingLog();
  const bounds = { OTEL_BSP_MAX_QUEUE_SIZE: '4', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '4' };
  const tracing = openWith({ ...collector.env, ...bounds }, log);
  // Four are in flight and four wait: the queue is the bound of the memory.
  for (let i = 0; i < 20; i += 1) tracing.begin('one', 'server').end();
  await expect.poll(() => collector.requests).toHaveLength(1);
  collector.release();
  await expect.poll(() => collector.spans).toHaveLength(8);
  for (let i = 0; i < 20; i += 1) tracing.begin('two', 'server').end();
  await tracing.close();
  expect(warnings).toEqual([
    {
      reason: 'Dropped 12 spans because maxQueueSize reached',
      message: 'OpenTelemetry reports a problem',
    },
  ]);
});

test('what the sweeper dispatches goes on with the trace of its request', async () => {
  const collector = await startCollector();
  const { cluster, author, client } = await traced(tracingTo(collector.env));
  const unavailable = {
    ...cluster,
    bus: { ...cluster.bus, publish: () => Promise.reject(new Error('unavailable')) },
  };
  const { id } = await createPost(unavailable, author, 'kept', { traceparent: PARENT });
  await cluster.db.query(`update events set occurred_at = '2020-01-01' where subject_id = $1`, [id]);
  await expect.poll(() => client.posts).toContain(id);
  await expect
    .poll(() => wayOf(collector.traceOf(TRACE).filter(({ failed }) => !failed)))
    .toEqual(
      [
        'plan post > write rows',
        ' > send events',
        'send events > plan post',
        'write rows > push post',
      ].sort(),
    );
  expect(collector.traceOf(TRACE).filter(({ failed }) => failed)).toMatchObject([{ name: 'send events' }]);
});

test('a collector that hangs, refuses or is away holds nothing up, and ends no process late', async () => {
  const collector = await startCollector();
  collector.mode.answer = 'hang';
  const { log, warnings, infos } = keepingLog();
  const env = {
    ...collector.env,
    OTEL_EXPORTER_OTLP_TIMEOUT: '100',
    OTEL_BSP_MAX_QUEUE_SIZE: '8',
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8',
  };
  const tracing = openWith(env, log);
  const { client, post } = await traced(tracing);
  for (let i = 0; i < 20; i += 1) await post();
  await expect.poll(() => client.posts).toHaveLength(20);
  const messages = () => warnings.map(({ message }) => message);
  await expect.poll(messages).toEqual(['traces not sent: spans are dropped until the collector takes them']);
  const { length } = collector.requests;
  collector.mode.answer = 503;
  await post();
  await expect.poll(() => client.posts).toHaveLength(21);
  // Failures after the first one are within the same minute.
  await expect.poll(() => collector.requests.length).toBeGreaterThan(length);
  expect(messages()).toHaveLength(1);
  collector.release();
  await post();
  await expect.poll(() => infos).toEqual(['traces are sent again']);
  collector.mode.answer = 'hang';
  // With a request in flight that is never answered.
  const patient = openWith({ ...collector.env, OTEL_EXPORTER_OTLP_TIMEOUT: '600000' });
  patient.begin('one', 'server').end();
  await Promise.all([patient.close(), tracing.close()]);
});

test.each([
  ['is silent', 'hang'],
  ['answers 503', 503],
  ['answers 400', 400],
  ['refuses connections', undefined],
] as const)('a collector that %s is left behind at the end', async (_, answer) => {
  const collector = await startCollector();
  if (answer) collector.mode.answer = answer;
  const env = { ...collector.env, OTEL_EXPORTER_OTLP_TIMEOUT: '600000' };
  const { log, warnings } = keepingLog();
  const tracing = openWith(answer ? env : { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }, log);
  for (let i = 0; i < 5_000; i += 1) tracing.begin('one', 'server').end();
  await tracing.close();
  expect(warnings.length).toBeLessThan(2);
  if (answer) expect(collector.requests.length).toBeGreaterThan(0);
});

test('what a message carries is bounded, and nothing that is no trace is taken from it', () => {
  const many = new Map(Array.from({ length: 100 }, (_, i) => [2 ** 52 + i, PARENT] as const));
  const text = encodeTraces(many)!;
  expect(text.length).toBeLessThan(1_300);
  expect([...decodeTraces(text)!]).toEqual([...many].slice(0, MAX_TRACES));
  expect(encodeTraces(new Map())).toBeUndefined();
  for (const strange of ['', 'x', '1=2', `1=${PARENT}x`, `-1=${PARENT}`, 5, { length: 3 }, undefined])
    expect(decodeTraces(strange)).toBeUndefined();
  expect(decodeTraces(`x,7=${PARENT}`)).toEqual(new Map([[7, PARENT]]));
});

test('nothing is handed on of what the sampler leaves out', async () => {
  const collector = await startCollector();
  const env = { ...collector.env, OTEL_TRACES_SAMPLER: 'parentbased_always_off' };
  const tracing = tracingTo(env);
  expect(tracing.begin('own', 'server').traceparent).toBeUndefined();
  expect(tracing.begin('asked for', 'server', { parent: PARENT }).traceparent).toMatch(
    new RegExp(`^00-${TRACE}-`),
  );
  for (const parent of ['rubbish', PARENT.replace(TRACE, '0'.repeat(32)), PARENT.replace(/^00/, 'ff')])
    expect(tracing.begin('none', 'server', { parent }).traceparent).toBeUndefined();
  const spans = beginBatch(tracing, { batch: 'batch', each: 'each' }, new Map([[7, PARENT]]), {});
  expect(spans.traces.get(7)).toMatch(TRACE);
  spans.end({ error: new Error('no room') });
  await expect
    .poll(() => collector.spans.map(({ name, failed }) => ({ name, failed })))
    .toEqual([{ name: 'each', failed: true }]);
});

test('the standard’s variables: protocol, compression, headers, names, endpoints', async () => {
  const collector = await startCollector();
  const tracing = openWith({
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.url}/own/path`,
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://elsewhere.invalid',
    OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    OTEL_EXPORTER_OTLP_HEADERS: 'api-key=secret,other=a%20b',
    OTEL_RESOURCE_ATTRIBUTES: 'region=north',
  });
  tracing.begin('one', 'server').end();
  await tracing.close();
  const [request] = collector.requests;
  expect(request).toMatchObject({
    url: '/own/path',
    headers: { 'content-type': 'application/x-protobuf', 'api-key': 'secret', other: 'a b' },
  });
  expect(request!.headers['content-encoding']).toBe('gzip');
  expect(request!.body.includes('feedctl-test')).toBe(true);
  expect(request!.body.includes('north')).toBe(true);
});

test.each<Record<string, string>>([
  { OTEL_TRACES_SAMPLER: 'sometimes' },
  { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '2' },
  { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
  { OTEL_EXPORTER_OTLP_COMPRESSION: 'zip' },
  { OTEL_EXPORTER_OTLP_TIMEOUT: 'soon' },
  { OTEL_EXPORTER_OTLP_CERTIFICATE: '/no/such/file' },
  { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'collector:4318' },
  { OTEL_BSP_MAX_QUEUE_SIZE: '0' },
  { OTEL_EXPORTER_OTLP_HEADERS: 'a b c' },
  { OTEL_EXPORTER_OTLP_HEADERS: 'api-key=hidden,hidden too' },
  { OTEL_EXPORTER_OTLP_HEADERS: 'api-key=' },
  { OTEL_EXPORTER_OTLP_HEADERS: 'api key=hidden' },
  { OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'api-key=%zz' },
  { OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'api-key=hidden%0a' },
  { OTEL_RESOURCE_ATTRIBUTES: 'xx' },
  { OTEL_RESOURCE_ATTRIBUTES: 'region=north=west' },
  { OTEL_RESOURCE_ATTRIBUTES: `region=${'x'.repeat(256)}` },
  { OTEL_TRACES_EXPORTER: 'zipkin' },
  { OTEL_SDK_DISABLED: 'yes' },
  { FEEDCTL_TRUST_TRACEPARENT: 'yes' },
  { OTEL_EXPORTER_OTLP_ENDPOINT: '', FEEDCTL_TRUST_TRACEPARENT: 'maybe' },
])('%o is refused by its name', async (wrong) => {
  const { message } = await refusal(wrong);
  expect(message).toContain(Object.keys(wrong).at(-1));
  expect(message).not.toContain('hidden');
});

test.each<Record<string, string>>([
  { OTEL_EXPORTER_OTLP_HEADERS: 'api-key=a%20b==, other=c,', OTEL_RESOURCE_ATTRIBUTES: 'region=, a%3Db=c,' },
  { OTEL_TRACES_EXPORTER: 'otlp', OTEL_SDK_DISABLED: 'False', FEEDCTL_TRUST_TRACEPARENT: 'true' },
  { OTEL_EXPORTER_OTLP_ENDPOINT: '', OTEL_TRACES_EXPORTER: 'zipkin', OTEL_SDK_DISABLED: 'yes' },
])('%o is taken', async (right) => {
  const telemetry = await opened(right);
  expect(telemetry.tracing !== undefined).toBe(right.OTEL_EXPORTER_OTLP_ENDPOINT === undefined);
  await telemetry.close();
});

test.each<Record<string, string>>([{ OTEL_SDK_DISABLED: 'TRUE' }, { OTEL_TRACES_EXPORTER: 'none' }])(
  '%o: no traces',
  async (off) => {
    const telemetry = await opened(off);
    expect(telemetry.tracing).toBeUndefined();
    await telemetry.close();
  },
);

function opened(env: Record<string, string>): Promise<Telemetry> {
  onTestFinished(() => void vi.unstubAllEnvs());
  for (const [name, value] of Object.entries({
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318',
    ...env,
  }))
    vi.stubEnv(name, value);
  return openTelemetry(WHAT);
}

async function refusal(env: Record<string, string>): Promise<FeedctlError> {
  const error = await rejection(opened(env));
  expect(error.code).toBe('CONFIG_INVALID');
  return error;
}
