import type { QueueDepth } from './bus.ts';

/** Returns the depth of a queue. A queue without messages is missing in `depths`. */
export const depthOf = (depths: readonly QueueDepth[], queue: string): QueueDepth =>
  depths.find((one) => one.queue === queue) ?? {
    queue,
    ready: 0,
    unacked: 0,
    oldestAgeMs: 0,
    deadLetters: 0,
  };

/** Messages that wait or are in flight. */
export const messagesIn = ({ ready, unacked }: QueueDepth): number => ready + unacked;
