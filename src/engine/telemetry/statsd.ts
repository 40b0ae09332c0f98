import { lookup } from 'node:dns/promises';
import { hostname } from 'node:os';
import { StatsD } from 'hot-shots';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { settleWithin } from '../util/deadline.ts';
import type { Log } from './log.ts';
import type { Metrics, Sample } from './metrics.ts';

const SEND_INTERVAL_MS = 10_000;
const PORT = 8125;
/** Payload of one Ethernet frame over IPv6 with options. A fragmented datagram is lost as a whole. */
const DATAGRAM_BYTES = 1_432;
/** Maximum time that a process waits at its end for the last metrics to be sent. */
const SHUTDOWN_TIMEOUT_MS = 1_000;

export interface StatsdTarget {
  readonly host: string;
  readonly port: number;
  /** Sends labels as tags (the DogStatsD extension) instead of parts of the name. */
  readonly tags: boolean;
  /** Text in front of every name, such as `eu.`. */
  readonly prefix: string;
  /** Name of this process in its gauges: a server keeps one value for each name. */
  readonly instance: string;
}

type Naming = Pick<StatsdTarget, 'tags' | 'prefix' | 'instance'>;

const inName = (text: string): string => text.replace(/[^A-Za-z0-9_-]/g, '_');
const inTag = (text: string): string => text.replace(/[,|#:\s]/g, '_');

/** Parses `statsd://host:8125?tags=true&prefix=eu.&instance=worker-3`. Throws CONFIG_INVALID. */
export function parseStatsdUrl(text: string): StatsdTarget {
  const url = URL.parse(text);
  if (
    !url ||
    !/^(statsd|udp):$/.test(url.protocol) ||
    !url.hostname ||
    url.username ||
    !/^\/?$/.test(url.pathname)
  )
    throw invalid(`${JSON.stringify(text)} is no URL such as statsd://localhost:8125`);
  const options = url.searchParams;
  const tags = options.get('tags') ?? 'false';
  const prefix = options.get('prefix') ?? '';
  const instance = options.get('instance') ?? inName(`${hostname()}-${process.pid}`);
  const unknown = [...options.keys()].some((name) => !['tags', 'prefix', 'instance'].includes(name));
  if (unknown || !/^(true|false)$/.test(tags))
    throw invalid(`${url.search} is invalid; use ?tags=true, ?prefix=TEXT and ?instance=NAME`);
  if (!/^[A-Za-z0-9_.-]*$/.test(prefix) || !/^[A-Za-z0-9_.-]+$/.test(instance))
    throw invalid(
      `in ${url.search} prefix and instance must consist of letters, digits, dots, hyphens and underscores`,
    );
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port) || PORT,
    tags: tags === 'true',
    prefix,
    instance,
  };
}

const invalid = (message: string) => new FeedctlError('CONFIG_INVALID', message);

/**
 * Returns the name and the tags of a sample. Only gauges of this process carry its instance: the
 * server adds counters up, and one process exports the gauges of the cluster.
 */
function named(sample: Sample, { tags, prefix, instance }: Naming) {
  const own = !sample.grows && !sample.ofCluster;
  const labels = Object.entries({ ...sample.labels, ...(own && { instance }) });
  const name = prefix + sample.name;
  if (!tags) return { name: [name, ...labels.map(([, value]) => inName(String(value)))].join('.') };
  return { name, tags: Object.fromEntries(labels.map(([label, value]) => [label, inTag(String(value))])) };
}

export function sendGauges(client: StatsD, samples: readonly Sample[], naming: Naming): void {
  for (const sample of samples) {
    const { value } = sample;
    if (sample.grows || !Number.isFinite(value)) continue;
    const { name, tags } = named(sample, naming);
    // A value with a sign changes a gauge relative to its last value. After a 0 it is the value itself.
    if (value < 0) client.gauge(name, 0, { tags });
    client.gauge(name, value, { tags });
  }
}

/** Sends the growth of each counter and histogram bucket since `sent`, and updates `sent`. */
export function sendGrowth(
  client: StatsD,
  samples: readonly Sample[],
  sent: Map<string, number>,
  naming: Naming,
): void {
  for (const sample of samples) {
    if (!sample.grows || !Number.isFinite(sample.value)) continue;
    const { name, tags } = named(sample, naming);
    const key = name + JSON.stringify(tags ?? '');
    const growth = sample.value - (sent.get(key) ?? 0);
    if (growth <= 0) continue;
    client.increment(name, growth, { tags });
    sent.set(key, sample.value);
  }
}

export interface StatsdExporter {
  /** Sends the last metrics, for at most one second. */
  close(): Promise<void>;
}

/** Sends the metrics of `/metrics` every ten seconds over UDP. */
export function startStatsd(
  metrics: Metrics,
  target: StatsdTarget,
  log: Log,
  { everyMs = SEND_INTERVAL_MS }: { everyMs?: number } = {},
): StatsdExporter {
  const sent = new Map<string, number>();
  let failing = false;
  const send = async () => {
    try {
      await sendRound(metrics, target, sent);
      if (failing) log.info({ host: target.host }, 'metrics are sent to StatsD again');
      failing = false;
    } catch (error) {
      if (!failing) log.warn({ host: target.host, reason: messageOf(error) }, 'metrics not sent to StatsD');
      failing = true;
    }
  };
  let sending: Promise<void> | undefined;
  const timer = setInterval(() => {
    sending ??= send().finally(() => {
      sending = undefined;
    });
  }, everyMs);
  return {
    async close() {
      clearInterval(timer);
      await settleWithin(SHUTDOWN_TIMEOUT_MS, Promise.resolve(sending).then(send));
    },
  };
}

/**
 * Sends all metrics once. Throws if the host cannot be resolved or a datagram cannot be sent.
 *
 * Gauges are sent first. If they fail, `sent` is unchanged and the next round sends the growth of
 * counters too. Growth is never sent twice: a datagram that is lost after that stays lost.
 */
async function sendRound(metrics: Metrics, target: StatsdTarget, sent: Map<string, number>): Promise<void> {
  // The client would use IPv4 for every host name, and resolve it once for each datagram.
  const { address } = await lookup(target.host);
  const samples = await metrics.samples();
  let failure: Error | undefined;
  const client = new StatsD({
    host: address,
    port: target.port,
    maxBufferSize: DATAGRAM_BYTES,
    // Variables of a Datadog agent must not change what is sent.
    datadog: false,
    includeDataDogTags: false,
    includeDatadogTelemetry: false,
    errorHandler: (error) => {
      failure ??= error;
    },
  });
  const flush = async () => {
    await new Promise<void>((resolve) => {
      client.flush((error) => {
        failure ??= error;
        resolve();
      });
    });
    if (failure) throw failure;
  };
  try {
    sendGauges(client, samples, target);
    await flush();
    sendGrowth(client, samples, sent, target);
    await flush();
  } finally {
    client.close(() => {});
  }
}
