import { messageOf } from '../model/errors.ts';
import { idsOfMessage } from '../model/messageIds.ts';
import { classify } from '../resilience/classify.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { backoffMs } from '../util/backoff.ts';
import type { Delivery } from './bus.ts';

/** Tries of the system's own work before a message is put aside. */
const MAX_ATTEMPTS = 10;
/** A server that is away uses up no attempt to count by: it is left alone for up to 0.8 s. */
const TRANSIENT_RUNG = 4;

/**
 * What becomes of a message whose work failed: again, later, where that may help; put aside as a dead letter where
 * it cannot, or after ten tries. A server that is away is no fault of the message and uses up no try.
 */
export function failDelivery(
  delivery: Delivery,
  error: unknown,
  { log, metrics }: { log: Log; metrics?: Metrics | undefined },
): void {
  const reason = messageOf(error);
  const failure = classify(error);
  // One queue a gateway: they are one to whoever watches.
  const queue = delivery.queue.replace(/^live\..*/, 'live');
  if (failure === 'permanent' || (failure === 'unknown' && delivery.attempts + 1 >= MAX_ATTEMPTS)) {
    metrics?.count('feedctl_bus_dead_letters_total', 1, { queue });
    log.error({ queue: delivery.queue, ...idsOfMessage(delivery.body), reason }, 'message dead-lettered');
    delivery.deadLetter(reason);
    return;
  }
  metrics?.count('feedctl_bus_retries_total', 1, { queue });
  const said = { queue: delivery.queue, ...idsOfMessage(delivery.body), attempts: delivery.attempts, reason };
  log.warn(said, 'message will be tried again');
  const transient = failure === 'transient';
  const rung = Math.max(delivery.attempts + 1, transient ? TRANSIENT_RUNG : 0);
  delivery.retry(backoffMs(rung), { counts: !transient });
}

/** Messages that failed together, in two parts of which one is free of the fault where a single message has it. */
export const halves = <T>(parts: readonly T[]): [T[], T[]] => {
  const middle = parts.length >> 1;
  return [parts.slice(0, middle), parts.slice(middle)];
};
