import type { QueueDepth } from './bus.ts';

/** Of one queue: a queue without messages is not among the depths. */
export const depthOf = (depths: readonly QueueDepth[], queue: string): QueueDepth =>
  depths.find((one) => one.queue === queue) ?? {
    queue,
    ready: 0,
    unacked: 0,
    oldestAgeMs: 0,
    deadLetters: 0,
  };

/** Messages that wait or are in the hands of consumers. */
export const heldIn = ({ ready, unacked }: QueueDepth): number => ready + unacked;
