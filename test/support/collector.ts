import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { onTestFinished } from 'vitest';

/** A span that arrived over OTLP. */
export interface CollectedSpan {
  readonly service: string;
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  /** Trace ids of the linked spans. */
  readonly links: readonly string[];
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly failed: boolean;
}

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface OtlpSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly links?: readonly { readonly traceId: string }[];
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code?: number };
}

interface OtlpTraces {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

const asObject = (attributes: readonly Attribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

/** Starts a collector of OTLP over HTTP, which ends with the test. */
export async function startCollector() {
  const requests: { headers: IncomingHttpHeaders; url: string; body: Buffer }[] = [];
  const spans: CollectedSpan[] = [];
  /** `hang` accepts requests and answers none until `release()`. */
  const mode: { answer: number | 'hang' } = { answer: 200 };
  const hanging: (() => void)[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const sent = Buffer.concat(chunks);
    const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(sent) : sent;
    requests.push({ headers: request.headers, url: request.url!, body });
    if (mode.answer === 'hang') await new Promise<void>((answer) => hanging.push(answer));
    const status = mode.answer === 'hang' ? 200 : mode.answer;
    if (status === 200 && request.headers['content-type'] === 'application/json')
      spans.push(...spansOf(JSON.parse(body.toString()) as OtlpTraces));
    const type = request.headers['content-type']!;
    response.writeHead(status, { 'content-type': type }).end(type === 'application/json' ? '{}' : '');
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    requests,
    spans,
    mode,
    /** Answers the requests that hang, and all later ones, with 200. */
    release() {
      mode.answer = 200;
      for (const answer of hanging.splice(0)) answer();
    },
    /** Variables that make a role send its traces here immediately. */
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_BSP_SCHEDULE_DELAY: '50',
    },
    traceOf: (traceId: string) => spans.filter((span) => span.traceId === traceId),
  };
}

function spansOf({ resourceSpans }: OtlpTraces): CollectedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap((scope) =>
      scope.spans.map((span) => ({
        service: String(asObject(resource.attributes)['service.name']),
        name: span.name,
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId || undefined,
        links: (span.links ?? []).map(({ traceId }) => traceId),
        attributes: asObject(span.attributes),
        failed: span.status.code === 2,
      })),
    ),
  );
}

/** Returns `parent > name` for each span of a trace, sorted. The parent is empty if it is not among them. */
export function wayOf(spans: readonly CollectedSpan[]): string[] {
  const nameOf = new Map(spans.map((span) => [span.spanId, span.name]));
  return spans.map(({ name, parentSpanId }) => `${nameOf.get(parentSpanId ?? '') ?? ''} > ${name}`).sort();
}
