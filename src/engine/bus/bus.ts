import type { Queryable } from '../database/database.ts';
import type { Check } from '../model/check.ts';
import type { ErrorCode, FeedctlError } from '../model/errors.ts';

/**
 * Port of the bus: durable queues with at-least-once delivery. Pipelines know only this file.
 * `local/` implements it in PostgreSQL, `rabbitmq/` over RabbitMQ; both pass one contract suite.
 */

/**
 *     events       events from the dispatcher to the planner
 *     events.bulk  events of imports and of posts with very many recipients: `events` never waits for them
 *     rows.live    planned feed rows of `events`, to the writer
 *     rows.bulk    planned feed rows of `events.bulk`, to the writer
 *     cleanup      rows to remove once every older plan is written
 *     live.<id>    posts for the sockets of one gateway
 */
export type QueueName = 'events' | 'events.bulk' | 'rows.live' | 'rows.bulk' | 'cleanup' | `live.${string}`;

/** Queues that exist independently of their consumers. */
export const DURABLE_QUEUES = ['events', 'events.bulk', 'rows.live', 'rows.bulk', 'cleanup'] as const;

/** Queues in which a barrier can be placed. */
export type BarrierQueue = Exclude<QueueName, 'cleanup' | `live.${string}`>;

/**
 * Stages of the pipeline in their order. A message is acked only when its results are in the queues of
 * the next stage. So all work is done once a barrier has passed each stage, one after the other.
 */
export const STAGES: readonly (readonly BarrierQueue[])[] = [
  ['events'],
  ['events.bulk'],
  ['rows.live', 'rows.bulk'],
];

/** `lineage` of messages that may have been made from any history of the database. */
export const ANY_LINEAGE = '-';

/** A message to publish. */
export interface Outgoing {
  readonly queue: QueueName;
  readonly body: Buffer;
  /** Partition of `rows.*`, author of `events`. Messages of the same key keep their order. */
  readonly key?: number;
  /** Minimum milliseconds until it is delivered. Default: 0. */
  readonly delayMs?: number;
  /** Trace contexts (`encodeTraces`), sent outside of the body. Dead letters do not keep them. */
  readonly traces?: string;
  /**
   * History of the database (`identity`) that the message was made from. Default: the present one. For
   * messages whose making takes long: a failover may end that history meanwhile.
   */
  readonly lineage?: string | undefined;
}

/** One message in flight. The consumer calls exactly one of `ack`, `retry` and `deadLetter`, once. */
export interface Delivery {
  readonly queue: string;
  readonly body: Buffer;
  /** `traces` of the published message. */
  readonly traces?: string | undefined;
  /** Failed attempts so far. The death of a consumer does not count. */
  readonly attempts: number;
  /**
   * The message was made from an earlier history of the database, which may have lost the posts and the
   * follows that it is about. Ask when the work begins, on a session of the database.
   */
  readonly earlier?: boolean;
  /** Removes the message. */
  ack(): void;
  /** Requeues the message. `counts: false`: the message is not at fault, and no attempt is counted. */
  retry(delayMs: number, options?: { counts?: boolean }): void;
  /** Moves the message to the dead letters. */
  deadLetter(reason: string): void;
}

export interface ConsumeOptions {
  /** Earlier queues are served first. */
  readonly queues: readonly QueueName[];
  /** Maximum messages in flight. */
  readonly prefetch: number;
  /**
   * Called for a gateway's queue, at the start and whenever its consumption begins or stops. Messages
   * published while it was not consumed may be lost.
   */
  readonly onConsumed?: (consumed: boolean) => void;
}

export interface Consumer {
  /** Takes no more messages, waits for those in flight until the deadline, and requeues the rest. */
  stop(deadlineMs: number): Promise<void>;
}

export interface QueueDepth {
  readonly queue: string;
  /** Messages that wait. */
  readonly ready: number;
  /** Messages in flight. */
  readonly unacked: number;
  /** Age of the oldest message. null: not known, as no consumer has seen the broker's messages. */
  readonly oldestAgeMs: number | null;
  readonly deadLetters: number;
}

/** Records in the messages of a queue, those in flight included: events, feed rows or posts. */
export interface QueueRecords {
  readonly queue: string;
  readonly records: number;
}

/** A message that waits in a queue. */
export interface WaitingMessage {
  readonly body: Buffer;
  readonly publishedAt: Date | null;
  /** Earlier deliveries that were not settled. */
  readonly deliveries: number;
}

/** Number of messages that one consumer has acked or dead-lettered in a queue since it began. */
export interface Throughput {
  readonly member: string;
  readonly queue: string;
  readonly count: number;
  /** Time of the count, in unix milliseconds. */
  readonly atMs: number;
}

/** A position in queues: it has passed when every message before it is acked or dead-lettered. */
export interface Barrier {
  readonly queues: readonly BarrierQueue[];
  readonly position: number;
  /** History of the database in which it was placed. What it waits for may be lost with that history. */
  readonly lineage?: string;
}

/** State of the server behind the bus. */
export interface BusHealth {
  readonly version: string;
  readonly ready: boolean;
  readonly detail: string;
  /** Why it is not ready. Default: BROKER_UNREACHABLE. */
  readonly code?: ErrorCode;
}

export interface Bus {
  readonly kind: string;
  /** Missing in the bus in PostgreSQL. Never throws for the state it finds. */
  health?(): Promise<BusHealth>;
  /** How the broker names itself, with the virtual host. undefined before the first connection. */
  serverName?(): string | undefined;
  /** Why this process takes no messages: they or the broker are not this cluster's. */
  refusal?(): FeedctlError | undefined;
  /** The present history of the database, for `Outgoing.lineage`. undefined before the first message. */
  lineage?(): string | undefined;
  /** Checks for `doctor`. Never throws for the state it finds. */
  check?(): Promise<Check[]>;
  /**
   * Resolves when all messages are durable. After an error, any of them may have been published.
   * Throws QUEUE_FULL if a queue is at its limit.
   */
  publish(messages: readonly Outgoing[]): Promise<void>;
  /**
   * Publishes the messages when the transaction commits. Only for a bus in the store's own database.
   * Throws QUEUE_FULL.
   */
  publishIn?(session: Queryable, messages: readonly Outgoing[]): Promise<void>;
  consume(options: ConsumeOptions, onDeliveries: (deliveries: Delivery[]) => void): Promise<Consumer>;
  /** Number of partitions of the rows queues: a power of two, which may change. */
  partitions(): Promise<number>;
  /** Partitions that are assigned to this process. Missing where processes share all queues. */
  reads?(): string[];
  placeBarrier(queues: readonly BarrierQueue[]): Promise<Barrier>;
  hasPassed(barrier: Barrier): Promise<boolean>;
  /**
   * Returns whether the queues have messages. One cheap query, for callers that ask many times a
   * second. With a broker it sees only messages of running consumers, as of a second ago.
   */
  holds(queues: readonly BarrierQueue[]): Promise<boolean>;
  /** Depths of the queues that have messages or dead letters. */
  depths(): Promise<QueueDepth[]>;
  /**
   * Records of the queues that have messages; estimated from the first 2,000 messages of a longer queue.
   * Missing where only consumers see messages.
   */
  records?(): Promise<QueueRecords[]>;
  /** Throughput so far, a second old at most. Two samples give a rate. */
  throughput(): Promise<Throughput[]>;
  /**
   * Returns the first messages that wait in a queue, some of each partition. They stay in place; a
   * broker counts one delivery more for each. Throws QUEUE_CONSUMED if the broker shows them to their
   * consumer only.
   */
  peek(queue: QueueName, limit: number): Promise<WaitingMessage[]>;
  /** Moves dead letters from the broker to `bus.dead_letters`, where operators can list them. */
  collectDeadLetters?(): Promise<void>;
  /** Deletes the messages that wait in a queue, and the queue itself if it is a gateway's. */
  dropQueue(queue: QueueName): Promise<void>;
  close(): Promise<void>;
}
