import { type Log, openLog } from './log.ts';
import { type Metrics, openMetrics } from './metrics.ts';
import { isTrue, oneOf, trustsCallers } from './otel/environment.ts';
import type { Tracing } from './tracing.ts';

/** Logs, metrics and traces of a process. */
export interface Telemetry {
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracing: Tracing | undefined;
  /**
   * Sends the remaining metrics and spans. Resolves within two seconds even if a server does not
   * answer. A request to it may then still be open, and keeps the process alive until its timeout.
   */
  close(): Promise<void>;
}

/**
 * Opens logs and metrics, and traces if the environment names a collector (docs/guides/telemetry.md).
 * `service`: kind of the process, e.g. `worker`. Throws CONFIG_INVALID.
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

/** Loads OpenTelemetry only if the environment names a collector. */
async function openTracing(
  options: { service: string; version: string },
  log: Log,
): Promise<Tracing | undefined> {
  const { env } = process;
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT;
  trustsCallers(env);
  // Without a collector, variables of the standard may be meant for other programs: they are not checked.
  if (!endpoint) return undefined;
  const disabled = isTrue(env, 'OTEL_SDK_DISABLED');
  const exporter = oneOf(env, 'OTEL_TRACES_EXPORTER', ['otlp', 'none']);
  if (disabled || exporter === 'none') return undefined;
  const { openOtel } = await import('./otel/otel.ts');
  return openOtel(options, log);
}
