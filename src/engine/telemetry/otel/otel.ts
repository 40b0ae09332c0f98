import { randomUUID } from 'node:crypto';
import {
  createTraceState,
  type Link,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import type { Log } from '../log.ts';
import type { Span, Tracing } from '../tracing.ts';
import { BoundedSpans } from './boundedSpans.ts';
import { checkPairs, trustsCallers } from './environment.ts';
import { OtlpExporter, otlpTarget } from './otlpExporter.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** A process that ends waits no longer than this for a collector. */
const SHUTDOWN_TIMEOUT_MS = 2_000;
const KINDS = {
  server: SpanKind.SERVER,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
} as const;
const SAMPLED = 1;
/** Of a resource's attribute: with a longer one the library leaves out all of them. */
const MAX_CHARACTERS = 255;

/**
 * Traces by OpenTelemetry's library, sent by OTLP over HTTP. Everything is said by the standard's variables, but who may
 * decide what is sampled, of which the standard says nothing; what they say wrong throws CONFIG_INVALID.
 */
export function openOtel(env: Environment, what: { service: string; version: string }, log: Log): Tracing {
  const exporter = new OtlpExporter(otlpTarget(env), log);
  const batches = {
    scheduledDelayMillis: whole(env, 'OTEL_BSP_SCHEDULE_DELAY', 5_000),
    maxQueueSize: whole(env, 'OTEL_BSP_MAX_QUEUE_SIZE', 2_048),
    maxExportBatchSize: whole(env, 'OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 512),
  };
  checkPairs(
    env,
    'OTEL_RESOURCE_ATTRIBUTES',
    (key, value) => !value.includes('=') && key.length <= MAX_CHARACTERS && value.length <= MAX_CHARACTERS,
  );
  const processor = new BoundedSpans(exporter, batches, log);
  const resource = defaultResource()
    .merge(
      resourceFromAttributes({
        'service.name': `feedctl-${what.service}`,
        'service.version': what.version,
        'service.instance.id': randomUUID(),
      }),
    )
    .merge(detectResources({ detectors: [envDetector] }));
  const provider = new TracerProvider({ resource, sampler: sampler(env), spanProcessors: [processor] });
  const tracer = provider.getTracer('feedctl', what.version);
  return {
    trustsCallers: trustsCallers(env),
    begin(name, kind, { parent, attributes, links = [] } = {}): Span {
      const context = parent === undefined ? undefined : contextOf(parent);
      const span = tracer.startSpan(
        name,
        {
          kind: KINDS[kind],
          ...(attributes && { attributes }),
          links: links.map(contextOf).flatMap((context): Link[] => (context ? [{ context }] : [])),
        },
        context ? trace.setSpanContext(ROOT_CONTEXT, context) : ROOT_CONTEXT,
      );
      const { traceId, spanId, traceFlags } = span.spanContext();
      return {
        traceparent: traceFlags & SAMPLED ? `00-${traceId}-${spanId}-01` : undefined,
        set: (more) => void span.setAttributes(more),
        end(error) {
          if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
          span.end();
        },
      };
    },
    async close() {
      const late = setTimeout(() => exporter.giveUp(), SHUTDOWN_TIMEOUT_MS);
      await provider.shutdown().catch(() => {}); // The exporter has said what there was to say.
      clearTimeout(late);
    },
  };
}

/** https://www.w3.org/TR/trace-context/#traceparent-header: later versions may have more behind it. */
function contextOf(traceparent: string) {
  const [, version, traceId, spanId, flags] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/.exec(traceparent) ?? [];
  if (!traceId || !spanId || version === 'ff' || /^0+$/.test(traceId) || /^0+$/.test(spanId))
    return undefined;
  return {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags!, 16) & SAMPLED,
    isRemote: true,
    traceState: createTraceState(),
  };
}

function sampler(env: Environment): Sampler {
  const name = env.OTEL_TRACES_SAMPLER || 'parentbased_always_on';
  const root = rootSampler(name.replace(/^parentbased_/, ''), env.OTEL_TRACES_SAMPLER_ARG);
  if (!root)
    throw new FeedctlError(
      'CONFIG_INVALID',
      `OTEL_TRACES_SAMPLER is ${name}; it may be always_on, always_off or traceidratio, each with parentbased_ before it`,
    );
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root;
}

function rootSampler(name: string, argument: string | undefined): Sampler | undefined {
  if (name === 'always_on') return new AlwaysOnSampler();
  if (name === 'always_off') return new AlwaysOffSampler();
  if (name !== 'traceidratio') return undefined;
  const ratio = argument ? Number(argument) : 1;
  if (!(ratio >= 0 && ratio <= 1))
    throw new FeedctlError(
      'CONFIG_INVALID',
      `OTEL_TRACES_SAMPLER_ARG is ${argument}; it is a share from 0 to 1`,
    );
  return new TraceIdRatioBasedSampler(ratio);
}

function whole(env: Environment, name: string, otherwise: number): number {
  const text = env[name];
  if (!text) return otherwise;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new FeedctlError('CONFIG_INVALID', `${name} is ${text}; it is a whole number above 0`);
  return Number(text);
}
