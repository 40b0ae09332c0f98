import type { ConsumeMessage } from 'amqplib';

/** A message from its arrival here until what settled it is done. */
export interface InFlight {
  /** Arrival in this process, by queue. */
  readonly seq: number;
  readonly raw: ConsumeMessage;
  readonly publishedAtMs: number;
  attempts: number;
  /** In somebody's hands; otherwise it waits here, for its turn or for the end of a delay. */
  dispatched: boolean;
  /** Its channel is gone: the broker will deliver it again, and what is said of this one counts no more. */
  orphaned: boolean;
  timer?: NodeJS.Timeout;
}
