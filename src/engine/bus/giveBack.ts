import { isFeedctlError, messageOf } from '../model/errors.ts';
import { isPassing } from '../store/database.ts';
import type { Log } from '../telemetry/log.ts';
import type { Delivery } from './bus.ts';

/** Tries of the system's own work before a message is put aside. */
const MAX_ATTEMPTS = 10;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 10_000;

/** Doubling from 100 ms to 10 s, with full jitter. */
export const backoffMs = (attempt: number): number =>
  Math.random() * Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt);

/**
 * What becomes of a message whose work failed: again, later, where that may help; put aside as a dead letter where
 * it cannot, or after ten tries. A database that is away is no fault of the message and uses up no try.
 */
export function giveBack(delivery: Delivery, error: unknown, log: Log): void {
  const reason = messageOf(error);
  const passing = isPassing(error);
  if (isFeedctlError(error, 'BUS_MESSAGE_INVALID') || (!passing && delivery.attempts + 1 >= MAX_ATTEMPTS)) {
    log.error({ queue: delivery.queue, reason }, 'message dead-lettered');
    delivery.deadLetter(reason);
  } else {
    log.warn({ queue: delivery.queue, attempts: delivery.attempts, reason }, 'message will be tried again');
    delivery.retry(backoffMs(delivery.attempts + 1), { counts: !passing });
  }
}
