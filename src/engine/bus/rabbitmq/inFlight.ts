import type { ConsumeMessage } from 'amqplib';
import type { Origin } from './origins.ts';

/** A message from its arrival in this process until the broker knows how it was settled. */
export interface InFlight {
  /** Number of its arrival in this process, rising for each queue. */
  readonly seq: number;
  readonly raw: ConsumeMessage;
  readonly publishedAtMs: number;
  /** Time of its arrival in this process, by the monotonic clock. */
  readonly arrivedAtMs: number;
  /** Where it comes from. Until that is known, it waits. */
  origin: Origin | undefined;
  attempts: number;
  /** Delivered to the consumer. Otherwise it waits here, for its turn or for the end of a delay. */
  dispatched: boolean;
  /** Its channel is closed: the broker delivers it again, and settling this copy has no effect. */
  orphaned: boolean;
  timer?: NodeJS.Timeout;
}
