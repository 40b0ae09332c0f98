import { DiagLogLevel, diag } from '@opentelemetry/api';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace';
import type { Log } from '../log.ts';

const WARN_INTERVAL_MS = 60_000;

type Warn = (fields: object, message: string) => void;

/** Returns a function that logs at most one warning a minute. Each counts those suppressed before it. */
function rateLimited(log: Log): Warn {
  let loggedAt = Number.NEGATIVE_INFINITY;
  let suppressed = 0;
  return (fields, message) => {
    if (performance.now() - loggedAt < WARN_INTERVAL_MS) {
      suppressed += 1;
      return;
    }
    log.warn({ ...fields, ...(suppressed > 0 && { suppressed }) }, message);
    loggedAt = performance.now();
    suppressed = 0;
  };
}

/**
 * Writes the library's warnings to the log, such as dropped spans. The library has one logger in a
 * process: the last call wins.
 */
export function logDiagnostics(log: Log): Warn {
  const warn = rateLimited(log);
  const report = (message: string) => warn({ reason: reasonOf(message) }, 'OpenTelemetry reports a problem');
  const ignore = () => {};
  diag.setLogger(
    { error: report, warn: report, info: ignore, debug: ignore, verbose: ignore },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  return warn;
}

/** Errors arrive as JSON with a stack, of which the log needs the message. */
const reasonOf = (message: string): string => /"message":"((?:[^"\\]|\\.)*)"/.exec(message)?.[1] ?? message;

/** Reports in the log that spans are lost, at most once a minute, and that they are sent again. */
export class LoggedExporter implements SpanExporter {
  readonly #exporter: SpanExporter;
  readonly #collector: string;
  readonly #log: Log;
  readonly #warn: Warn;
  #failing = false;

  constructor(exporter: SpanExporter, collector: string, log: Log, warn: Warn) {
    this.#exporter = exporter;
    this.#collector = collector;
    this.#log = log;
    this.#warn = warn;
  }

  export(spans: ReadableSpan[], onResult: Parameters<SpanExporter['export']>[1]): void {
    this.#exporter.export(spans, (result) => {
      this.#report(spans.length, result.error);
      onResult(result);
    });
  }

  shutdown(): Promise<void> {
    return this.#exporter.shutdown();
  }

  #report(spans: number, error: Error | undefined): void {
    const collector = this.#collector;
    if (error)
      this.#warn(
        { collector, spans, reason: error.message },
        'traces not sent: spans are dropped until the collector takes them',
      );
    else if (this.#failing) this.#log.info({ collector }, 'traces are sent again');
    this.#failing = error !== undefined;
  }
}
