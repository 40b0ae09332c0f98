import { type Log, openLog } from './log.ts';
import { type Metrics, openMetrics } from './metrics.ts';
import { isTrue, oneOf, trustsCallers } from './otel/environment.ts';
import type { Tracing } from './tracing.ts';

/** What a process tells of its work, for as long as it runs. */
export interface Telemetry {
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracing: Tracing | undefined;
  /** Sends what is left, within seconds, and whether or not anybody takes it. */
  close(): Promise<void>;
}

/**
 * Opens logs, metrics, and traces where the environment asks for them (docs/guides/telemetry.md). Throws CONFIG_INVALID.
 * `service`: what the process is, e.g. `worker`.
 */
export async function openTelemetry(options: {
  readonly service: string;
  readonly version: string;
  readonly logLevel?: string | undefined;
  readonly statsdUrl?: string | undefined;
}): Promise<Telemetry> {
  const log = await openLog(options.logLevel || 'info');
  const { statsdUrl } = options;
  const statsd = statsdUrl ? await import('./statsd.ts') : undefined;
  const target = statsdUrl ? statsd!.parseStatsdUrl(statsdUrl) : undefined;
  const tracing = await openTracing(options, log);
  const metrics = await openMetrics();
  const exporter = target && statsd!.startStatsd(metrics, target, log);
  return {
    log,
    metrics,
    tracing,
    async close() {
      await Promise.all([exporter?.close(), tracing?.close()]);
    },
  };
}

/** The libraries are only loaded where there is a collector. */
async function openTracing(
  options: { service: string; version: string },
  log: Log,
): Promise<Tracing | undefined> {
  const { env } = process;
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT;
  trustsCallers(env);
  // Those of the standard may be meant for others where nobody named a collector.
  if (!endpoint) return undefined;
  const disabled = isTrue(env, 'OTEL_SDK_DISABLED');
  const exporter = oneOf(env, 'OTEL_TRACES_EXPORTER', ['otlp', 'none']);
  if (disabled || exporter === 'none') return undefined;
  const { openOtel } = await import('./otel/otel.ts');
  return openOtel(env, options, log);
}
