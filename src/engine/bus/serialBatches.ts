import type { Delivery } from './bus.ts';

/**
 * Returns a callback for `consume` that handles one batch at a time. Messages that arrive while
 * `work` runs become the next batch. `work` never rejects.
 */
export const serialBatches = (
  work: (batch: readonly Delivery[]) => Promise<void>,
): ((deliveries: readonly Delivery[]) => void) =>
  parallelBatches(work, { batches: 1, messages: Number.POSITIVE_INFINITY });

/** As `serialBatches`, with up to `batches` batches at a time, each of up to `messages` messages. */
export function parallelBatches(
  work: (batch: readonly Delivery[]) => Promise<void>,
  { batches, messages }: { batches: number; messages: number },
): (deliveries: readonly Delivery[]) => void {
  const waiting: Delivery[] = [];
  let running = 0;
  const run = async () => {
    running += 1;
    while (waiting.length > 0) await work(waiting.splice(0, messages));
    running -= 1;
  };
  return (deliveries) => {
    waiting.push(...deliveries);
    while (running < batches && waiting.length > 0) void run();
  };
}
