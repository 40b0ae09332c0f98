/**
 * Spans, as the engine asks for them. Where nobody wants traces there is no `Tracing`, and nothing is made for a
 * message: everybody asks for it with `?.`.
 */
export interface Tracing {
  /**
   * `parent`: where the span belongs, as a W3C traceparent; without one that can be read, a new trace, if the sampler
   * wants it.
   */
  begin(name: string, kind: SpanKind, options?: SpanOptions): Span;
  /** Traces of whoever makes a request are gone on with, and sampled as they say. Else they are linked to. */
  readonly trustsCallers: boolean;
  /** Sends what is left. Resolves within seconds, collector or not. */
  close(): Promise<void>;
}

export type SpanKind = 'server' | 'producer' | 'consumer';
export type Attributes = Readonly<Record<string, string | number | boolean>>;

interface SpanOptions {
  readonly parent?: string | undefined;
  readonly attributes?: Attributes;
  /** Other spans that this one has to do with, as traceparents. */
  readonly links?: readonly string[];
}

export interface Span {
  /** What to hand on; undefined where the trace is not sampled: then nothing more is made of it. */
  readonly traceparent: string | undefined;
  set(attributes: Attributes): void;
  /** `error`: what it failed with. */
  end(error?: unknown): void;
}

/** Traceparents by id: of events in a message of events, of posts everywhere else. */
export type Traces = ReadonlyMap<number, string>;

/** Of one message: more posts than that lose their traces on the way. 1.2 KB. */
export const MAX_TRACES = 16;

const TRACEPARENT = '00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}';
const ONE = new RegExp(`^(\\d{1,16})=(${TRACEPARENT})$`);

/** As text beside a message; undefined where there is nothing to say. */
export function encodeTraces(traces: Traces | undefined): string | undefined {
  if (!traces || traces.size === 0) return undefined;
  return [...traces]
    .slice(0, MAX_TRACES)
    .map(([id, traceparent]) => `${id}=${traceparent}`)
    .join(',');
}

/** Whoever wrote it: what cannot be read is left out, as a message is never refused for its trace. */
export function decodeTraces(text: unknown): Traces | undefined {
  if (typeof text !== 'string' || text === '') return undefined;
  const traces = new Map<number, string>();
  for (const part of text.split(',', MAX_TRACES)) {
    const [, id, traceparent] = ONE.exec(part) ?? [];
    if (traceparent) traces.set(Number(id), traceparent);
  }
  return traces.size > 0 ? traces : undefined;
}

/** Traces of several messages as one. */
export function mergedTraces(all: Iterable<Traces | undefined>): Map<number, string> | undefined {
  let merged: Map<number, string> | undefined;
  for (const traces of all) {
    if (!traces) continue;
    merged ??= new Map();
    for (const [id, traceparent] of traces) merged.set(id, traceparent);
  }
  return merged;
}

/** Those of a message's own events or posts, as they go beside it. */
export function tracesAmong(all: Traces | undefined, ids: Iterable<number>): { traces?: string } {
  if (!all || all.size === 0) return {};
  const found = new Map<number, string>();
  for (const id of ids) {
    const traceparent = all.get(id);
    if (traceparent) found.set(id, traceparent);
    if (found.size === MAX_TRACES) break;
  }
  const traces = encodeTraces(found);
  return traces ? { traces } : {};
}

/** The spans of work on a batch. */
export interface BatchSpans {
  /** What to hand on for each traced post or event of the batch. */
  readonly traces: Traces;
  /** `attributes`: of each; `each`: more of one of them. */
  end(options?: {
    error?: unknown;
    attributes?: Attributes;
    each?: (id: number) => Attributes | undefined;
  }): void;
}

/**
 * Work on many posts at a time is in no post's trace, and in all of them: one span of the batch, and one in the trace of
 * each post that is traced, which link to each other.
 */
export function beginBatch(
  tracing: Tracing,
  names: { readonly batch: string; readonly each: string },
  from: Traces,
  attributes: Attributes,
): BatchSpans {
  const batch = tracing.begin(names.batch, 'consumer', { links: [...from.values()], attributes });
  const links = batch.traceparent ? [batch.traceparent] : [];
  const traces = new Map<number, string>();
  const spans = new Map<number, Span>();
  for (const [id, parent] of from) {
    const span = tracing.begin(names.each, 'consumer', { parent, links, attributes });
    spans.set(id, span);
    if (span.traceparent) traces.set(id, span.traceparent);
  }
  return {
    traces,
    end({ error, attributes: more = {}, each } = {}) {
      for (const [id, span] of spans) {
        span.set({ ...more, ...each?.(id) });
        span.end(error);
      }
      batch.set(more);
      batch.end(error);
    },
  };
}
