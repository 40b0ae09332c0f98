/**
 * Makes spans. Without a collector there is no `Tracing`: callers use `?.`, and no work is done for a
 * message.
 */
export interface Tracing {
  /**
   * Begins a span in the trace of `parent`, a W3C traceparent. Without a valid parent it begins a new
   * trace, which the sampler may leave out.
   */
  begin(name: string, kind: SpanKind, options?: SpanOptions): Span;
  /** Requests continue the trace of their caller, and its sampling. Otherwise they link to it. */
  readonly trustsCallers: boolean;
  /** Sends the remaining spans, for at most two seconds. */
  close(): Promise<void>;
}

export type SpanKind = 'server' | 'producer' | 'consumer';
export type Attributes = Readonly<Record<string, string | number | boolean>>;

export interface SpanOptions {
  readonly parent?: string | undefined;
  readonly attributes?: Attributes;
  /** Traceparents of related spans in other traces. */
  readonly links?: readonly string[];
}

export interface Span {
  /** Context for the next process. Undefined if the trace is not sampled. */
  readonly traceparent: string | undefined;
  set(attributes: Attributes): void;
  /** Ends the span, as failed if there is an `error`. */
  end(error?: unknown): void;
}

/** Traceparents by id: ids of events in messages of events, ids of posts everywhere else. */
export type Traces = ReadonlyMap<number, string>;

/** Maximum number of traces in a message, 1.2 KB. The other posts of the message lose theirs. */
export const MAX_TRACES = 16;

const TRACEPARENT = '00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}';
const ENTRY = new RegExp(`^(\\d{1,16})=(${TRACEPARENT})$`);

/** Encodes traces as a text that a message carries outside its body. */
export function encodeTraces(traces: Traces | undefined): string | undefined {
  if (!traces || traces.size === 0) return undefined;
  return [...traces]
    .slice(0, MAX_TRACES)
    .map(([id, traceparent]) => `${id}=${traceparent}`)
    .join(',');
}

/** Decodes traces. Invalid entries are left out, because a message is never refused for its trace. */
export function decodeTraces(text: unknown): Traces | undefined {
  if (typeof text !== 'string' || text === '') return undefined;
  const traces = new Map<number, string>();
  for (const part of text.split(',', MAX_TRACES)) {
    const [, id, traceparent] = ENTRY.exec(part) ?? [];
    if (traceparent) traces.set(Number(id), traceparent);
  }
  return traces.size > 0 ? traces : undefined;
}

/** Merges the traces of several messages. */
export function mergedTraces(all: Iterable<Traces | undefined>): Map<number, string> | undefined {
  let merged: Map<number, string> | undefined;
  for (const traces of all) {
    if (!traces) continue;
    merged ??= new Map();
    for (const [id, traceparent] of traces) merged.set(id, traceparent);
  }
  return merged;
}

/** Returns the encoded traces of a message that holds these events or posts. */
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

/** Spans of work on a batch. */
export interface BatchSpans {
  /** Contexts for the next process, of each traced post or event of the batch. */
  readonly traces: Traces;
  /** Ends all spans. `attributes` are set on each; `each` returns further ones of a post or event. */
  end(options?: {
    error?: unknown;
    attributes?: Attributes;
    each?: (id: number) => Attributes | undefined;
  }): void;
}

/**
 * Begins the spans of work on many posts: one of the batch, which is a trace by itself, and one in the
 * trace of each traced post. They link to each other.
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
    end({ error, attributes: final = {}, each } = {}) {
      for (const [id, span] of spans) {
        span.set({ ...final, ...each?.(id) });
        span.end(error);
      }
      batch.set(final);
      batch.end(error);
    },
  };
}
