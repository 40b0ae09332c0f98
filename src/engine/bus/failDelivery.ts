import { messageOf } from '../model/errors.ts';
import { idsOfMessage } from '../model/messageIds.ts';
import { classify } from '../resilience/classify.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { backoffMs } from '../util/backoff.ts';
import type { Delivery } from './bus.ts';

/** Attempts after which a message is dead-lettered. */
const MAX_ATTEMPTS = 10;
/** Minimum backoff step of a transient failure, up to 0.8 s: its attempts are not counted. */
const TRANSIENT_STEP = 4;

/**
 * Settles a message whose work failed. Permanent failures are dead-lettered, others are retried with
 * backoff and dead-lettered after ten attempts. A transient failure, such as a server that is down,
 * is not the message's fault: its attempts are not counted.
 */
export function failDelivery(
  delivery: Delivery,
  error: unknown,
  { log, metrics }: { log: Log; metrics?: Metrics | undefined },
): void {
  const reason = messageOf(error);
  const failure = classify(error);
  // Metrics have one label for the queues of all gateways.
  const queue = delivery.queue.replace(/^live\..*/, 'live');
  if (failure === 'permanent' || (failure === 'unknown' && delivery.attempts + 1 >= MAX_ATTEMPTS)) {
    metrics?.count('feedctl_bus_dead_letters_total', 1, { queue });
    log.error({ queue: delivery.queue, ...idsOfMessage(delivery.body), reason }, 'message dead-lettered');
    delivery.deadLetter(reason);
    return;
  }
  metrics?.count('feedctl_bus_retries_total', 1, { queue });
  const fields = {
    queue: delivery.queue,
    ...idsOfMessage(delivery.body),
    attempts: delivery.attempts,
    reason,
  };
  log.warn(fields, 'message will be retried');
  const transient = failure === 'transient';
  const step = Math.max(delivery.attempts + 1, transient ? TRANSIENT_STEP : 0);
  delivery.retry(backoffMs(step), { counts: !transient });
}

/** Halves messages that failed together, so that one faulty message does not fail the others. */
export const halves = <T>(parts: readonly T[]): [T[], T[]] => {
  const middle = parts.length >> 1;
  return [parts.slice(0, middle), parts.slice(middle)];
};
