import type { Bus, Outgoing, QueueName } from '../bus/bus.ts';
import type { Database, Queryable } from '../database/database.ts';
import type { EventRef } from '../model/event.ts';
import { idsOfEvents } from '../model/messageIds.ts';
import { encodeEvents } from '../model/messages.ts';
import type { Clock } from '../store/databaseClock.ts';
import type { DispatchMarks } from '../store/dispatchMarks.ts';
import { markDispatched } from '../store/events.ts';
import type { Log } from '../telemetry/log.ts';
import { encodeTraces, MAX_TRACES, type Span, type Tracing } from '../telemetry/tracing.ts';

/** Maximum events of one message: 50 KB, and at most a few hundred milliseconds of planning. */
const EVENTS_A_MESSAGE = 2_000;

/** The import that events are counted for, and the time of their commit in unix milliseconds. */
type Header = Parameters<typeof encodeEvents>[0];

/** Imports go to `events.bulk`, so that live posts do not wait for them. */
type EventQueue = QueueName & `events${string}`;

/** An event, and the trace context of its request if the request is sampled. */
export type TracedEvent = EventRef & { readonly traceparent?: string | null | undefined };

export interface DispatchContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly log?: Log | undefined;
  readonly tracing?: Tracing | undefined;
}

function eventMessages(
  events: readonly TracedEvent[],
  header: Header,
  queue: EventQueue,
  sending?: Sending,
): Outgoing[] {
  const messages: Outgoing[] = [];
  for (let from = 0; from < events.length; from += EVENTS_A_MESSAGE) {
    const part = events.slice(from, from + EVENTS_A_MESSAGE);
    const traces = sending?.of(part);
    messages.push({
      queue,
      key: events[from]!.aggregateId,
      body: encodeEvents(header, part),
      ...(traces && { traces }),
    });
  }
  return messages;
}

/** Producer spans of the traced events of one dispatch. */
class Sending {
  readonly #spans = new Map<number, Span>();
  readonly #tracing: Tracing;
  readonly #queue: string;

  constructor(tracing: Tracing, queue: string) {
    this.#tracing = tracing;
    this.#queue = queue;
  }

  /** Begins spans for these events and returns the traces for their message. */
  of(events: readonly TracedEvent[]): string | undefined {
    const traces = new Map<number, string>();
    for (const { id, subjectId, traceparent } of events) {
      if (!traceparent || traces.size === MAX_TRACES) continue;
      const span = this.#tracing.begin(`send ${this.#queue}`, 'producer', {
        parent: traceparent,
        attributes: {
          'messaging.destination.name': this.#queue,
          'feedctl.event.id': String(id),
          'feedctl.post.id': String(subjectId),
        },
      });
      this.#spans.set(id, span);
      if (span.traceparent) traces.set(id, span.traceparent);
    }
    return encodeTraces(traces);
  }

  end(error?: unknown): void {
    for (const span of this.#spans.values()) span.end(error);
  }
}

/**
 * Publishes committed events, and marks them as dispatched when the bus has confirmed them. After a
 * failure in between the sweeper publishes them again. `marks`: marks them with those of other calls.
 */
export async function dispatch(
  context: DispatchContext,
  events: readonly TracedEvent[],
  header: Header,
  queue: EventQueue = 'events',
  marks?: DispatchMarks,
): Promise<void> {
  if (events.length === 0) return;
  const { db, bus, log } = context;
  await send(context, events, header, queue, (messages) => bus.publish(messages));
  log?.debug?.({ queue, ...idsOfEvents(events) }, 'events dispatched');
  await (marks ? marks.mark(events) : markDispatched(db, events));
}

/** Publishes events in the transaction that writes them, with `dispatched_at` set. */
export type PublishWithin = (session: Queryable, events: readonly TracedEvent[]) => Promise<void>;

/**
 * Returns a function that publishes events inside the transaction that writes them, if the bus shares the
 * store's database; undefined otherwise. These events are dispatched by their commit. They need no mark
 * and no sweep. A transaction of several shards has several commits: a message inside of one could precede
 * the posts of another.
 */
export async function dispatchWithin(
  context: DispatchContext & { readonly clock: Clock },
  { importId = 0, queue = 'events' }: { importId?: number; queue?: EventQueue } = {},
): Promise<PublishWithin | undefined> {
  const { bus, clock, db } = context;
  const publishIn = bus.publishIn?.bind(bus);
  if (!publishIn || (await db.sharding()).distributed) return undefined;
  return (session, events) => {
    const header = { importId, committedAt: clock.now() };
    return send(context, events, header, queue, (messages) => publishIn(session, messages));
  };
}

async function send(
  { tracing }: DispatchContext,
  events: readonly TracedEvent[],
  header: Header,
  queue: EventQueue,
  publish: (messages: Outgoing[]) => Promise<void>,
): Promise<void> {
  const sending = tracing && new Sending(tracing, queue);
  try {
    await publish(eventMessages(events, header, queue, sending));
  } catch (error) {
    sending?.end(error);
    throw error;
  }
  sending?.end();
}
