import type { Delivery } from './bus.ts';

/**
 * What to pass to `consume`, to have messages handled one batch after the other: while `work`, which never rejects, has one
 * in hand, whatever comes becomes the next.
 */
export function serialBatches(
  work: (batch: readonly Delivery[]) => Promise<void>,
): (deliveries: readonly Delivery[]) => void {
  let waiting: Delivery[] = [];
  let running = false;
  const run = async () => {
    running = true;
    while (waiting.length > 0) {
      const batch = waiting;
      waiting = [];
      await work(batch);
    }
    running = false;
  };
  return (deliveries) => {
    waiting.push(...deliveries);
    if (!running) void run();
  };
}
