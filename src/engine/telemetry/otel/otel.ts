import { randomUUID } from 'node:crypto';
import {
  createTraceState,
  type Link,
  SpanKind as OtelSpanKind,
  ROOT_CONTEXT,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import {
  defaultResource,
  detectResources,
  type Resource,
  resourceAttributesEnvDetector,
  resourceFromAttributes,
  serviceNameEnvDetector,
} from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import { settleWithin } from '../../util/deadline.ts';
import type { Log } from '../log.ts';
import type { Span, SpanKind, SpanOptions, Tracing } from '../tracing.ts';
import { LoggedExporter, logDiagnostics } from './diagnostics.ts';
import { checkVariables, oneOf, otlpName, trustsCallers, wholeNumber } from './environment.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** The process as it is named in its traces. */
interface Identity {
  readonly service: string;
  readonly version: string;
}

/** Maximum time that a process waits at its end for the collector. */
const SHUTDOWN_TIMEOUT_MS = 2_000;
const KINDS = {
  server: OtelSpanKind.SERVER,
  producer: OtelSpanKind.PRODUCER,
  consumer: OtelSpanKind.CONSUMER,
} as const;
const SAMPLED = 1;

/**
 * Opens traces by OpenTelemetry, sent by OTLP over HTTP. The environment configures them. The library
 * reads the variables of the exporter itself. Those of the sampler and of batches are read here,
 * because version 3 of the library leaves them to its callers. Throws CONFIG_INVALID.
 */
export function openOtel(identity: Identity, log: Log): Tracing {
  const { env } = process;
  const collector = checkVariables(env);
  const batches = {
    scheduledDelayMillis: wholeNumber(env, 'OTEL_BSP_SCHEDULE_DELAY'),
    maxQueueSize: wholeNumber(env, 'OTEL_BSP_MAX_QUEUE_SIZE'),
    maxExportBatchSize: wholeNumber(env, 'OTEL_BSP_MAX_EXPORT_BATCH_SIZE'),
  };
  const sampler = openSampler(env);
  const warn = logDiagnostics(log);
  const exporter = new LoggedExporter(openExporter(env), collector, log, warn);
  const provider = new TracerProvider({
    resource: resourceOf(identity),
    sampler,
    spanProcessors: [new BatchSpanProcessor({ ...batches, exporter })],
  });
  return new OtelTracing(provider, identity.version, trustsCallers(env));
}

class OtelTracing implements Tracing {
  readonly trustsCallers: boolean;
  readonly #provider: TracerProvider;
  readonly #tracer: Tracer;

  constructor(provider: TracerProvider, version: string, trustsCallers: boolean) {
    this.trustsCallers = trustsCallers;
    this.#provider = provider;
    this.#tracer = provider.getTracer('feedctl', version);
  }

  begin(name: string, kind: SpanKind, { parent, attributes, links = [] }: SpanOptions = {}): Span {
    const context = parent === undefined ? undefined : contextOf(parent);
    const span = this.#tracer.startSpan(
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
  }

  /** A collector that does not answer is left behind: its request ends with the process. */
  close(): Promise<void> {
    return settleWithin(SHUTDOWN_TIMEOUT_MS, this.#provider.shutdown());
  }
}

/** Parses https://www.w3.org/TR/trace-context/#traceparent-header. Later versions may append fields. */
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

function openExporter(env: Environment): SpanExporter {
  const protocol = oneOf(env, otlpName(env, 'PROTOCOL'), ['http/protobuf', 'http/json']);
  return protocol === 'http/json' ? new JsonExporter() : new ProtobufExporter();
}

/** Returns the attributes of this process. The environment takes precedence. */
function resourceOf({ service, version }: Identity): Resource {
  return defaultResource()
    .merge(
      resourceFromAttributes({
        'service.name': `feedctl-${service}`,
        'service.version': version,
        'service.instance.id': randomUUID(),
      }),
    )
    .merge(detectResources({ detectors: [resourceAttributesEnvDetector, serviceNameEnvDetector] }));
}

function openSampler(env: Environment): Sampler {
  const name = oneOf(env, 'OTEL_TRACES_SAMPLER', [
    'parentbased_always_on',
    'parentbased_always_off',
    'parentbased_traceidratio',
    'always_on',
    'always_off',
    'traceidratio',
  ]);
  const root = rootSampler(env, name.replace(/^parentbased_/, ''));
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root;
}

function rootSampler(env: Environment, name: string): Sampler {
  if (name === 'always_on') return new AlwaysOnSampler();
  if (name === 'always_off') return new AlwaysOffSampler();
  const share = Number(env.OTEL_TRACES_SAMPLER_ARG || 1);
  if (share >= 0 && share <= 1) return new TraceIdRatioBasedSampler(share);
  throw new FeedctlError(
    'CONFIG_INVALID',
    `OTEL_TRACES_SAMPLER_ARG is ${env.OTEL_TRACES_SAMPLER_ARG}; it must be a share from 0 to 1`,
  );
}
