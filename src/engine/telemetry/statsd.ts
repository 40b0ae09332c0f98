import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { hostname } from 'node:os';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { settleWithin } from '../util/deadline.ts';
import type { Log } from './log.ts';
import type { Metrics, Sample } from './metrics.ts';

const SEND_INTERVAL_MS = 10_000;
const PORT = 8125;
/** What fits into one frame of Ethernet with IPv6 and its options: datagrams that are split get lost whole. */
const DATAGRAM_BYTES = 1_432;
/** The last figures of a process that ends wait no longer than this. */
const SHUTDOWN_TIMEOUT_MS = 1_000;

export interface StatsdTarget {
  readonly host: string;
  readonly port: number;
  /** Labels as tags, which is an extension (DogStatsD); otherwise their values are parts of the name. */
  readonly tags: boolean;
  /** Before every name, such as `eu.`. */
  readonly prefix: string;
  /** Whose gauges these are: a server keeps the last value of each name, and would keep that of one process of many. */
  readonly instance: string;
}

/** `statsd://host`, `statsd://host:8125?tags=true&prefix=eu.&instance=worker-3`. Throws CONFIG_INVALID. */
export function parseStatsdUrl(text: string): StatsdTarget {
  const url = URL.parse(text);
  const known = ['tags', 'prefix', 'instance'];
  const tags = url?.searchParams.get('tags') ?? 'false';
  const prefix = url?.searchParams.get('prefix') ?? '';
  const instance = url?.searchParams.get('instance') ?? inName(`${hostname()}-${process.pid}`);
  const strange = [...(url?.searchParams.keys() ?? [])].some((name) => !known.includes(name));
  if (
    !url ||
    !/^(statsd|udp):$/.test(url.protocol) ||
    !url.hostname ||
    url.username ||
    !/^\/?$/.test(url.pathname)
  )
    throw new FeedctlError(
      'CONFIG_INVALID',
      `${JSON.stringify(text)} is no URL such as statsd://localhost:8125`,
    );
  if (strange || !/^(true|false)$/.test(tags))
    throw new FeedctlError(
      'CONFIG_INVALID',
      `${url.search} is not understood; it may be ?tags=true, ?prefix=TEXT and ?instance=NAME`,
    );
  if (!/^[A-Za-z0-9_.-]*$/.test(prefix) || !/^[A-Za-z0-9_.-]+$/.test(instance))
    throw new FeedctlError(
      'CONFIG_INVALID',
      `in ${url.search} a prefix and an instance are letters, digits, dots, hyphens and underscores`,
    );
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port) || PORT,
    tags: tags === 'true',
    prefix,
    instance,
  };
}

const inName = (text: string): string => text.replace(/[^A-Za-z0-9_-]/g, '_');
const inTag = (text: string): string => text.replace(/[,|#:\s]/g, '_');

type Naming = Pick<StatsdTarget, 'tags' | 'prefix' | 'instance'>;

/** One line, and of a counter what it brings the server up to. */
export interface StatsdLine {
  readonly text: string;
  readonly upTo?: { readonly key: string; readonly value: number };
}

/** Of this process, as counters are added up, and figures of the cluster are told by one. */
const isOwn = ({ grows, ofCluster }: Sample): boolean => !grows && !ofCluster;

function named(sample: Sample, { tags, prefix, instance }: Naming): { name: string; suffix: string } {
  const labels = { ...sample.labels, ...(isOwn(sample) && { instance }) };
  const own = prefix + sample.name;
  const values = Object.entries(labels);
  if (!tags)
    return { name: [own, ...values.map(([, value]) => inName(String(value)))].join('.'), suffix: '' };
  const tagged = values.map(([label, value]) => `${label}:${inTag(String(value))}`);
  return { name: own, suffix: tagged.length > 0 ? `|#${tagged.join(',')}` : '' };
}

/**
 * The lines of some figures. `before`: what counters were when they were sent last. A counter is sent as what it has
 * grown by, and not where that is nothing; so are the buckets of histograms.
 */
export function statsdLines(
  samples: readonly Sample[],
  before: ReadonlyMap<string, number>,
  naming: Naming,
): StatsdLine[] {
  const lines: StatsdLine[] = [];
  for (const sample of samples) {
    const { name, suffix } = named(sample, naming);
    const { value } = sample;
    if (!Number.isFinite(value)) continue;
    if (sample.grows) {
      const key = name + suffix;
      const grown = value - (before.get(key) ?? 0);
      if (grown > 0) lines.push({ text: `${name}:${grown}|c${suffix}`, upTo: { key, value } });
    } else {
      // With a sign it would be a change of the gauge and not its value.
      if (value < 0) lines.push({ text: `${name}:0|g${suffix}` });
      lines.push({ text: `${name}:${value}|g${suffix}` });
    }
  }
  return lines;
}

/** Lines in as few datagrams as they fit into; a line is never split. */
export function inDatagrams(lines: readonly StatsdLine[]): StatsdLine[][] {
  const datagrams: StatsdLine[][] = [];
  let open: StatsdLine[] = [];
  let bytes = 0;
  for (const line of lines) {
    const more = Buffer.byteLength(line.text) + 1;
    // The last one has no end of line.
    if (open.length > 0 && bytes + more - 1 > DATAGRAM_BYTES) {
      datagrams.push(open);
      [open, bytes] = [[], 0];
    }
    open.push(line);
    bytes += more;
  }
  if (open.length > 0) datagrams.push(open);
  return datagrams;
}

export interface StatsdExporter {
  /** Sends what is left. */
  close(): Promise<void>;
}

/** Sends the figures of `/metrics` every ten seconds over UDP: nobody waits for it, and nobody hears that it was lost. */
export function startStatsd(
  metrics: Metrics,
  target: StatsdTarget,
  log: Log,
  { everyMs = SEND_INTERVAL_MS }: { everyMs?: number } = {},
): StatsdExporter {
  const before = new Map<string, number>();
  let failing = false;
  const send = async () => {
    const { address, family } = await lookup(target.host);
    const datagrams = inDatagrams(statsdLines(await metrics.samples(), before, target));
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    try {
      for (const lines of datagrams) {
        const datagram = lines.map(({ text }) => text).join('\n');
        await new Promise<void>((resolve, reject) => {
          socket.send(datagram, target.port, address, (error) => (error ? reject(error) : resolve()));
        });
        // One by one: where the next cannot be sent, this one is not sent again.
        for (const { upTo } of lines) if (upTo) before.set(upTo.key, upTo.value);
      }
    } finally {
      socket.close();
    }
  };
  const sendNow = async () => {
    try {
      await send();
      if (failing) log.info({ host: target.host }, 'figures are sent to StatsD again');
      failing = false;
    } catch (error) {
      if (!failing) log.warn({ host: target.host, reason: messageOf(error) }, 'figures not sent to StatsD');
      failing = true;
    }
  };
  let sending: Promise<void> = Promise.resolve();
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    sending = sendNow().finally(() => {
      busy = false;
    });
  }, everyMs);
  return {
    async close() {
      clearInterval(timer);
      await settleWithin(SHUTDOWN_TIMEOUT_MS, sending.then(sendNow));
    },
  };
}
