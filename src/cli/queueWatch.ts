import type { QueueView } from '../engine/queues/list.ts';
import { secondsSince } from '../engine/util/numbers.ts';

export interface WatchEnd {
  readonly view: QueueView;
  readonly reason: 'empty' | 'timeout' | 'stopped';
  readonly seconds: number;
}

const NO_VIEW: QueueView = { queues: [], lanes: [], outbox: false, empty: false };

/**
 * Passes each view on, until the queues are empty, the timeout is over, or the views end because of a signal.
 * Without `untilEmpty`, empty queues do not end it.
 */
export async function watchUntil(
  views: AsyncIterable<QueueView>,
  limits: { untilEmpty: boolean; timeoutSeconds: number | undefined },
  onView: (view: QueueView) => void,
): Promise<WatchEnd> {
  const { untilEmpty, timeoutSeconds = Number.POSITIVE_INFINITY } = limits;
  const startedAt = performance.now();
  let last = NO_VIEW;
  for await (const view of views) {
    last = view;
    onView(view);
    const seconds = secondsSince(startedAt);
    if (untilEmpty && view.empty) return { view, reason: 'empty', seconds };
    if (seconds >= timeoutSeconds) return { view, reason: 'timeout', seconds };
  }
  return { view: last, reason: 'stopped', seconds: secondsSince(startedAt) };
}

/** Messages that wait or are in flight. */
export const messagesLeft = (view: QueueView): number =>
  view.queues.reduce((sum, row) => sum + row.ready + row.unacked, 0);
