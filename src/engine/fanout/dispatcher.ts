import type { Bus } from '../bus/bus.ts';
import type { EventRef } from '../model/event.ts';
import { encodeEvents } from '../model/messages.ts';
import type { Database } from '../store/database.ts';
import { markDispatched } from '../store/events.ts';

/** Events of one message: 50 KB, and at most a few hundred milliseconds of planning for one consumer. */
const EVENTS_A_MESSAGE = 2_000;

/**
 * Publishes committed events and then notes that the bus has confirmed them. Whatever stops it in between, the
 * sweeper publishes them (again). `run`: the bulk run they are counted for.
 */
export async function dispatch(
  db: Database,
  bus: Bus,
  events: readonly EventRef[],
  header: { run: number; committedAt: number },
): Promise<void> {
  if (events.length === 0) return;
  const messages = [];
  for (let from = 0; from < events.length; from += EVENTS_A_MESSAGE) {
    messages.push({
      queue: 'events' as const,
      body: encodeEvents(header, events.slice(from, from + EVENTS_A_MESSAGE)),
    });
  }
  await bus.publish(messages);
  await markDispatched(db, events);
}
