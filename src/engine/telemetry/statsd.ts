import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { FeedctlError, messageOf } from '../model/errors.ts';
import type { Log } from './log.ts';
import type { Metrics, Sample } from './metrics.ts';

const EVERY_MS = 10_000;
const PORT = 8125;
/** What fits into one frame of Ethernet with IPv6 and its options: datagrams that are split get lost whole. */
const DATAGRAM_BYTES = 1_432;
/** The last figures of a process that ends wait no longer than this. */
const LAST_MS = 1_000;

export interface StatsdTarget {
  readonly host: string;
  readonly port: number;
  /** Labels as tags, which is an extension (DogStatsD); otherwise their values are parts of the name. */
  readonly tags: boolean;
}

/** `statsd://host`, `statsd://host:8125?tags=true`. Throws CONFIG_INVALID. */
export function parseStatsdUrl(text: string): StatsdTarget {
  const url = URL.parse(text);
  const known = ['tags'];
  const tags = url?.searchParams.get('tags') ?? 'false';
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
    throw new FeedctlError('CONFIG_INVALID', `${url.search} is not understood; it may be ?tags=true`);
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port) || PORT,
    tags: tags === 'true',
  };
}

const inName = (text: string): string => text.replace(/[^A-Za-z0-9_-]/g, '_');
const inTag = (text: string): string => text.replace(/[,|#:\s]/g, '_');

const nameOf = ({ name, labels }: Sample, tags: boolean): string =>
  tags ? name : [name, ...Object.values(labels).map((value) => inName(String(value)))].join('.');

const tagsOf = ({ labels }: Sample): string =>
  Object.entries(labels)
    .map(([label, value]) => `${label}:${inTag(String(value))}`)
    .join(',');

/**
 * The lines of some figures. `before`: what counters were when they were sent last, which is brought up to date. A
 * counter is sent as what it has grown by, and not where that is nothing; so are the buckets of histograms.
 */
export function statsdLines(
  samples: readonly Sample[],
  before: Map<string, number>,
  tags: boolean,
): string[] {
  const lines: string[] = [];
  for (const sample of samples) {
    const name = nameOf(sample, tags);
    const suffix = tags && Object.keys(sample.labels).length > 0 ? `|#${tagsOf(sample)}` : '';
    const { value } = sample;
    if (!Number.isFinite(value)) continue;
    if (sample.grows) {
      const key = name + suffix;
      const grown = value - (before.get(key) ?? 0);
      before.set(key, value);
      if (grown > 0) lines.push(`${name}:${grown}|c${suffix}`);
    } else {
      // With a sign it would be a change of the gauge and not its value.
      if (value < 0) lines.push(`${name}:0|g${suffix}`);
      lines.push(`${name}:${value}|g${suffix}`);
    }
  }
  return lines;
}

/** Lines in as few datagrams as they fit into; a line is never split. */
export function inDatagrams(lines: readonly string[]): string[] {
  const datagrams: string[] = [];
  let open: string | undefined;
  for (const line of lines) {
    if (open !== undefined && Buffer.byteLength(open) + 1 + Buffer.byteLength(line) <= DATAGRAM_BYTES) {
      open += `\n${line}`;
      continue;
    }
    if (open !== undefined) datagrams.push(open);
    open = line;
  }
  if (open !== undefined) datagrams.push(open);
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
  { everyMs = EVERY_MS }: { everyMs?: number } = {},
): StatsdExporter {
  let before = new Map<string, number>();
  let failing = false;
  const send = async () => {
    const { address, family } = await lookup(target.host);
    const now = new Map(before);
    const datagrams = inDatagrams(statsdLines(await metrics.samples(), now, target.tags));
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    try {
      for (const datagram of datagrams)
        await new Promise<void>((resolve, reject) => {
          socket.send(datagram, target.port, address, (error) => (error ? reject(error) : resolve()));
        });
    } finally {
      socket.close();
    }
    before = now;
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
      const last = sending.then(sendNow);
      await Promise.race([last, sleep(LAST_MS, undefined, { ref: false })]);
    },
  };
}
