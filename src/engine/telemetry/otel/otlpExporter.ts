import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { type ExportResult, ExportResultCode, parseKeyPairsIntoRecord } from '@opentelemetry/core';
import { JsonTraceSerializer, ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace';
import { Agent, request } from 'undici';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import { backoffMs } from '../../util/backoff.ts';
import type { Log } from '../log.ts';
import { checkPairs } from './environment.ts';

const TIMEOUT_MS = 10_000;
/** https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes */
const RETRYABLE = [429, 502, 503, 504];
const FORMATS = {
  'http/protobuf': { type: 'application/x-protobuf', serializer: ProtobufTraceSerializer },
  'http/json': { type: 'application/json', serializer: JsonTraceSerializer },
} as const;

/** https://www.rfc-editor.org/rfc/rfc9110#name-field-names, and values of characters that one can see, or spaces. */
const isHeader = (key: string, value: string): boolean =>
  /^[\w!#$%&'*+.^`|~-]+$/.test(key) && /^[\x20-\x7e]+$/.test(value);

interface OtlpTarget {
  readonly url: string;
  /** Where that is, without what may be secret in it. */
  readonly shown: string;
  readonly format: (typeof FORMATS)[keyof typeof FORMATS];
  readonly headers: Readonly<Record<string, string>>;
  readonly gzip: boolean;
  readonly timeoutMs: number;
  readonly tls: { ca?: Buffer; cert?: Buffer; key?: Buffer };
}

/**
 * What the variables of https://opentelemetry.io/docs/specs/otel/protocol/exporter/ say, those of traces before those of
 * everything. Throws CONFIG_INVALID.
 */
export function otlpTarget(env: Readonly<Record<string, string | undefined>>): OtlpTarget {
  const own = (name: string) => env[`OTEL_EXPORTER_OTLP_TRACES_${name}`];
  const setting = (name: string) => own(name) || env[`OTEL_EXPORTER_OTLP_${name}`] || undefined;
  const refuse = (name: string, value: string, what: string): never => {
    const set = own(name) ? `TRACES_${name}` : name;
    throw new FeedctlError('CONFIG_INVALID', `OTEL_EXPORTER_OTLP_${set} is ${value}; it is ${what}`);
  };
  const endpoint = own('ENDPOINT') || `${env.OTEL_EXPORTER_OTLP_ENDPOINT!.replace(/\/$/, '')}/v1/traces`;
  const url = URL.parse(endpoint);
  if (!url || !/^https?:$/.test(url.protocol))
    return refuse('ENDPOINT', JSON.stringify(endpoint), 'a URL such as http://collector:4318');
  const protocol = setting('PROTOCOL') ?? 'http/protobuf';
  const format = FORMATS[protocol as keyof typeof FORMATS];
  if (!format) return refuse('PROTOCOL', protocol, `${Object.keys(FORMATS).join(' or ')}`);
  const compression = setting('COMPRESSION') ?? 'none';
  if (!/^(none|gzip)$/.test(compression)) return refuse('COMPRESSION', compression, 'none or gzip');
  const timeout = setting('TIMEOUT') ?? String(TIMEOUT_MS);
  if (!/^[1-9]\d{0,8}$/.test(timeout)) return refuse('TIMEOUT', timeout, 'a number of milliseconds');
  const file = (name: string) => {
    const path = setting(name);
    try {
      return path === undefined ? undefined : readFileSync(path);
    } catch (error) {
      return refuse(name, path!, `a file that can be read: ${messageOf(error)}`);
    }
  };
  for (const name of ['OTEL_EXPORTER_OTLP_HEADERS', 'OTEL_EXPORTER_OTLP_TRACES_HEADERS'])
    checkPairs(env, name, isHeader);
  const [ca, cert, key] = [file('CERTIFICATE'), file('CLIENT_CERTIFICATE'), file('CLIENT_KEY')];
  return {
    url: endpoint,
    shown: url.origin,
    format,
    headers: {
      ...parseKeyPairsIntoRecord(env.OTEL_EXPORTER_OTLP_HEADERS),
      ...parseKeyPairsIntoRecord(own('HEADERS')),
    },
    gzip: compression === 'gzip',
    timeoutMs: Number(timeout),
    tls: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) },
  };
}

/**
 * Sends spans to a collector. Of the library's own exporter everything but the sending is used: that cannot be called off,
 * and a collector that does not answer would keep a process that has drained alive for ten seconds more.
 */
export class OtlpExporter implements SpanExporter {
  readonly #target: OtlpTarget;
  readonly #log: Log;
  readonly #agent: Agent;
  readonly #stop = new AbortController();
  #failing = false;

  constructor(target: OtlpTarget, log: Log) {
    this.#target = target;
    this.#log = log;
    this.#agent = new Agent({ connect: target.tls });
  }

  export(spans: ReadableSpan[], onResult: (result: ExportResult) => void): void {
    this.#send(spans).then(
      () => {
        if (this.#failing) this.#log.info({ collector: this.#target.shown }, 'traces are sent again');
        this.#failing = false;
        onResult({ code: ExportResultCode.SUCCESS });
      },
      (error) => {
        const said = { collector: this.#target.shown, spans: spans.length, reason: messageOf(error) };
        if (!this.#failing) this.#log.warn(said, 'traces not sent: spans are dropped until it works again');
        this.#failing = true;
        onResult({ code: ExportResultCode.FAILED, error: error as Error });
      },
    );
  }

  /** What is under way is given up. */
  giveUp(): void {
    this.#stop.abort(new Error('the process ends'));
  }

  async shutdown(): Promise<void> {
    this.giveUp();
    await this.#agent.destroy();
  }

  async forceFlush(): Promise<void> {}

  async #send(spans: ReadableSpan[]): Promise<void> {
    const { format, headers, url, timeoutMs } = this.#target;
    const bytes = Buffer.from(format.serializer.serializeRequest(spans)!);
    const body = this.#target.gzip ? await promisify(gzip)(bytes) : bytes;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(timeoutMs)]);
    const encoding = this.#target.gzip && { 'content-encoding': 'gzip' };
    const options = {
      method: 'POST',
      headers: { ...headers, 'content-type': format.type, ...encoding },
      body,
      signal,
      dispatcher: this.#agent,
    } as const;
    for (let tries = 1; ; tries += 1) {
      const answer = await request(url, options);
      await answer.body.dump();
      if (answer.statusCode < 300) return;
      if (!RETRYABLE.includes(answer.statusCode))
        throw new Error(`the collector answered ${answer.statusCode}`);
      const seconds = Number(answer.headers['retry-after']);
      await sleep(seconds > 0 ? seconds * 1_000 : 500 + backoffMs(tries), undefined, { signal });
    }
  }
}
