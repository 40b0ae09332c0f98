import type { Bus, QueueDepth } from '../bus/bus.ts';

/** What the messages of a queue hold. */
export type RecordUnit = 'events' | 'rows' | 'posts';

export interface QueueBacklog extends QueueDepth {
  /** Events, feed rows or posts in the messages that wait or are in flight. null: not known. */
  readonly records: number | null;
  /** null: messages of several kinds, or cleanups. */
  readonly recordUnit: RecordUnit | null;
}

export function recordUnit(queue: string): RecordUnit | null {
  if (queue.startsWith('events')) return 'events';
  if (queue.startsWith('rows.')) return 'rows';
  return queue.startsWith('live.') ? 'posts' : null;
}

/** Returns the depths of the queues that have messages or dead letters, and what the messages hold. */
export async function readBacklog(bus: Bus): Promise<QueueBacklog[]> {
  const found = await bus.records?.();
  return (await bus.depths()).map((depth) => {
    const unit = recordUnit(depth.queue);
    // The depths are a moment younger: a queue that is missing in `found` has just got its messages.
    const records = found?.find(({ queue }) => queue === depth.queue)?.records ?? 0;
    return { ...depth, recordUnit: unit, records: found && unit ? records : null };
  });
}
