import type { Bus, Outgoing, QueueName } from '../bus/bus.ts';
import type { EventRef } from '../model/event.ts';
import { encodeEvents } from '../model/messages.ts';
import type { Database, Queryable } from '../store/database.ts';
import { markDispatched } from '../store/events.ts';

/** Events of one message: 50 KB, and at most a few hundred milliseconds of planning for one consumer. */
const EVENTS_A_MESSAGE = 2_000;

/** The bulk run that events are counted for, and when they were committed (unix milliseconds). */
type Header = Parameters<typeof encodeEvents>[0];

/** Imports go to `events.bulk`, so that a post made meanwhile does not wait for them. */
type EventQueue = QueueName & `events${string}`;

function eventMessages(events: readonly EventRef[], header: Header, queue: EventQueue): Outgoing[] {
  const messages: Outgoing[] = [];
  for (let from = 0; from < events.length; from += EVENTS_A_MESSAGE) {
    messages.push({
      queue,
      key: events[from]!.aggregateId,
      body: encodeEvents(header, events.slice(from, from + EVENTS_A_MESSAGE)),
    });
  }
  return messages;
}

/**
 * Publishes committed events and then notes that the bus has confirmed them. Whatever stops it in between, the
 * sweeper publishes them (again).
 */
export async function dispatch(
  db: Database,
  bus: Bus,
  events: readonly EventRef[],
  header: Header,
  queue: EventQueue = 'events',
): Promise<void> {
  if (events.length === 0) return;
  await bus.publish(eventMessages(events, header, queue));
  await markDispatched(db, events);
}

/**
 * The same inside the transaction that writes the events, where the bus shares the store's database; undefined
 * elsewhere. Nothing is left to note or to sweep: half the time of a bulk import went into noting it.
 */
export function dispatchWithin(
  bus: Bus,
  run: number,
  queue: EventQueue,
): ((session: Queryable, events: readonly EventRef[]) => Promise<void>) | undefined {
  const publishIn = bus.publishIn?.bind(bus);
  return (
    publishIn &&
    ((session, events) => publishIn(session, eventMessages(events, { run, committedAt: Date.now() }, queue)))
  );
}
