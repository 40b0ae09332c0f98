import { type Context, TraceFlags } from '@opentelemetry/api';
import type { ExportResult } from '@opentelemetry/core';
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type Span,
  type SpanExporter,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace';
import type { Log } from '../log.ts';

const LOG_INTERVAL_MS = 60_000;

/** Spans wait in a queue of bounded length. The library's own drops what does not fit without a word: here it is said. */
export class BoundedSpans implements SpanProcessor {
  readonly #inner: BatchSpanProcessor;
  readonly #most: number;
  readonly #log: Log;
  #waiting = 0;
  #dropped = 0;
  #saidAt = Number.NEGATIVE_INFINITY;

  constructor(
    exporter: SpanExporter,
    options: { scheduledDelayMillis: number; maxQueueSize: number; maxExportBatchSize: number },
    log: Log,
  ) {
    this.#most = options.maxQueueSize;
    this.#log = log;
    this.#inner = new BatchSpanProcessor({
      ...options,
      exporter: {
        export: (spans: ReadableSpan[], onResult: (result: ExportResult) => void) => {
          this.#waiting -= spans.length;
          exporter.export(spans, onResult);
        },
        shutdown: () => exporter.shutdown(),
        forceFlush: async () => exporter.forceFlush?.(),
      },
    });
  }

  onStart(span: Span, context: Context): void {
    this.#inner.onStart(span, context);
  }

  onEnd(span: ReadableSpan): void {
    if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return;
    if (this.#waiting >= this.#most) {
      this.#dropped += 1;
      if (performance.now() - this.#saidAt > LOG_INTERVAL_MS) this.#say();
      return;
    }
    this.#waiting += 1;
    this.#inner.onEnd(span);
  }

  forceFlush(): Promise<void> {
    return this.#inner.forceFlush();
  }

  async shutdown(): Promise<void> {
    if (this.#dropped > 0) this.#say();
    await this.#inner.shutdown();
  }

  #say(): void {
    this.#log.warn({ spans: this.#dropped }, 'spans dropped: the collector takes them too slowly');
    this.#dropped = 0;
    this.#saidAt = performance.now();
  }
}
