import type { Queryable } from '../database/database.ts';
import type { Check } from '../model/check.ts';

/**
 * The Bus port: a durable at-least-once queue. Ports are what the pipelines know; drivers live in folders beside
 * this file and all pass the same contract suite.
 */

/**
 *     events       what happened, from the dispatcher to the planner
 *     events.bulk  the same, of imports, and of posts with very many recipients: `events` never waits for it
 *     rows.live    planned feed rows on their way to the writer
 *     rows.bulk    the same, of events.bulk
 *     cleanup      rows to remove once everything planned earlier has been written
 *     live.<id>    posts for the sockets of one gateway
 */
export type QueueName = 'events' | 'events.bulk' | 'rows.live' | 'rows.bulk' | 'cleanup' | `live.${string}`;

/** Those that outlive everyone who uses them. */
export const DURABLE_QUEUES = ['events', 'events.bulk', 'rows.live', 'rows.bulk', 'cleanup'] as const;

/** Queues whose messages can be waited for. */
export type BarrierQueue = Exclude<QueueName, 'cleanup' | `live.${string}`>;

/**
 * The way of a post in steps: a message of one step is acked only when what it leads to is in the next step's
 * queues. So whoever waits for one step after the other has waited for everything.
 */
export const STAGES: readonly (readonly BarrierQueue[])[] = [
  ['events'],
  ['events.bulk'],
  ['rows.live', 'rows.bulk'],
];

export interface Outgoing {
  readonly queue: QueueName;
  readonly body: Buffer;
  /** Of `rows.*` the partition, of `events` whose they are: what has the same key keeps its order. */
  readonly key?: number;
  /** Not before this many milliseconds from now. */
  readonly delayMs?: number;
  /** Beside the body: `encodeTraces`. Not kept with a dead letter. */
  readonly traces?: string;
}

/** One message in a consumer's hands, until it is settled by exactly one of the three calls. */
export interface Delivery {
  readonly queue: string;
  readonly body: Buffer;
  /** What was published beside the body. */
  readonly traces?: string | undefined;
  /** Failed attempts before this one. A consumer that died is no attempt of the message's. */
  readonly attempts: number;
  ack(): void;
  /** Gives it back for another try. `counts: false`: it was not the message's fault, so no attempt is used up. */
  retry(delayMs: number, options?: { counts?: boolean }): void;
  deadLetter(reason: string): void;
}

export interface ConsumeOptions {
  /** Earlier queues are served first. */
  readonly queues: readonly QueueName[];
  /** Messages in this consumer's hands at a time. */
  readonly prefetch: number;
  /**
   * Of a gateway's queue: told whether it is consumed, at the start and whenever that changes. When it is again, what
   * was published meanwhile may be lost.
   */
  readonly onConsumed?: (consumed: boolean) => void;
}

export interface Consumer {
  /** Takes no more, waits until what it holds is settled or the deadline has passed, and gives the rest back. */
  stop(deadlineMs: number): Promise<void>;
}

export interface QueueDepth {
  readonly queue: string;
  /** Waiting to be taken. */
  readonly ready: number;
  /** In the hands of consumers. */
  readonly unacked: number;
  /** Of the oldest message; null where there are some and the bus cannot tell: a broker's queue that nobody consumes. */
  readonly oldestAgeMs: number | null;
  readonly deadLetters: number;
}

/** A message that nobody has in hand. */
export interface WaitingMessage {
  readonly body: Buffer;
  readonly publishedAt: Date | null;
  /** How often it was handed out before, and not answered. */
  readonly deliveries: number;
}

/** How many messages have left a queue for good through one consumer since it began, as of then. */
export interface Throughput {
  readonly member: string;
  readonly queue: string;
  readonly count: number;
  readonly atMs: number;
}

/** A point in the life of some queues: everything published to them before it. */
export interface Barrier {
  readonly queues: readonly BarrierQueue[];
  readonly position: number;
}

/** The server behind the bus, where it has one of its own. */
export interface BusHealth {
  readonly version: string;
  readonly ready: boolean;
  readonly detail: string;
}

export interface Bus {
  readonly kind: string;
  /** Neither throws for what it finds. */
  health?(): Promise<BusHealth>;
  check?(): Promise<Check[]>;
  /** Resolves when all of them are durable; on any error none may be counted on. Throws QUEUE_FULL at the bound. */
  publish(messages: readonly Outgoing[]): Promise<void>;
  /**
   * Only where the bus lives in the store's own database: the messages are published when that transaction
   * commits, or not at all. Throws QUEUE_FULL too.
   */
  publishIn?(session: Queryable, messages: readonly Outgoing[]): Promise<void>;
  consume(options: ConsumeOptions, onDeliveries: (deliveries: Delivery[]) => void): Promise<Consumer>;
  /** Into how many partitions rows are sorted before they are published. A power of two; it may change. */
  partitions(): Promise<number>;
  /** Partitions that this process alone reads now. Only where they are dealt out. */
  reads?(): string[];
  placeBarrier(queues: readonly BarrierQueue[]): Promise<Barrier>;
  /** Whether everything before the mark has been acked or dead-lettered. */
  hasPassed(barrier: Barrier): Promise<boolean>;
  /**
   * Whether these queues hold anything: one cheap look at the database, for who asks many times a second. On a broker it
   * is what consumers hold, a second old at most: what nobody consumes is not seen.
   */
  holds(queues: readonly BarrierQueue[]): Promise<boolean>;
  /** Queues with messages, dead ones included. */
  depths(): Promise<QueueDepth[]>;
  /** What has left the queues: two looks tell a rate. A second old at most. */
  throughput(): Promise<Throughput[]>;
  /**
   * The first messages that wait in a queue, where there are partitions some of each. They stay where they are; on a
   * broker each counts as handed out once more. Throws QUEUE_CONSUMED where the bus cannot show them beside a consumer.
   */
  peek(queue: QueueName, limit: number): Promise<WaitingMessage[]>;
  /** Moves dead letters that are still at a broker into `bus.dead_letters`, where they can be looked at. */
  collectDeadLetters?(): Promise<void>;
  /** Drops what waits in a queue, and the queue of a gateway that is gone. */
  dropQueue(queue: QueueName): Promise<void>;
  close(): Promise<void>;
}
