import type { Delivery } from './bus.ts';

/**
 * Returns a callback for `consume` that handles one batch at a time. Messages that arrive while
 * `work` runs become the next batch. `work` never rejects.
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
