import { randomUUID } from 'node:crypto';
import type { Channel } from 'amqplib';
import { type FeedctlError, messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import type { ConsumeOptions, Consumer, Delivery } from '../bus.ts';
import type { Connection } from './connection.ts';
import type { InFlight } from './inFlight.ts';
import { assignedPartitions, type Member, type MessageCounts } from './membership.ts';
import { isDurable } from './queueNames.ts';
import { Reader, type ReaderContext, TRACES } from './reader.ts';

/** Additional prefetch, so that messages can pass those that wait for the end of a delay. */
const SLACK = 4;
/** Maximum prefetch: amqplib buffers acks beyond 32 pending commands, and a fence would overtake them. */
const MAX_PREFETCH = 24;
/** Additional prefetch of cleanups: they are small, wait for barriers, and contain none. */
const CLEANUP_SLACK = 500;

export interface ConsumerContext
  extends Pick<ReaderContext, 'log' | 'count' | 'deadLetter' | 'passBarriers' | 'origins'> {
  readonly connection: Connection;
  declared(): number;
  /** Declares the queue of a gateway. Returns its name at the broker. */
  declareLive(channel: Channel, queue: string): Promise<string>;
  /** Declares what is missing at the broker. */
  declareTopology(): Promise<void>;
}

/** Consumes the assigned partitions of some queues, and delivers earlier queues first. */
export class RabbitConsumer implements Consumer {
  readonly id = randomUUID();
  readonly queues: readonly string[];
  /** Messages of each queue that this consumer has acked or dead-lettered. */
  readonly settled: Record<string, number> = {};
  readonly #context: ConsumerContext;
  readonly #prefetch: number;
  readonly #onDeliveries: (deliveries: Delivery[]) => void;
  readonly #onConsumed: ConsumeOptions['onConsumed'];
  readonly #onStopped: () => Promise<void>;
  readonly #log: Log;
  /** By name at the broker. */
  readonly #readers = new Map<string, Reader>();
  /** Queue of each assigned partition, by name at the broker. */
  #assigned: ReadonlyMap<string, string> = new Map();
  #dispatched = 0;
  #turn = 0;
  #pumping = false;
  #started = false;
  #stopped: Promise<void> | undefined;
  #work: Promise<void> = Promise.resolve();

  constructor(
    context: ConsumerContext,
    options: ConsumeOptions,
    onDeliveries: (deliveries: Delivery[]) => void,
    onStopped: () => Promise<void>,
  ) {
    this.#context = context;
    this.#log = context.log;
    this.queues = options.queues;
    this.#prefetch = options.prefetch;
    this.#onDeliveries = onDeliveries;
    this.#onConsumed = options.onConsumed;
    this.#onStopped = onStopped;
  }

  /** Names at the broker of the partitions that are consumed now. */
  get open(): string[] {
    return [...this.#readers.values()].filter((reader) => reader.isOpen).map((reader) => reader.name);
  }

  /** Names at the broker of the partitions that have no more messages than those in this process. */
  get drained(): string[] {
    return [...this.#readers.values()].filter((reader) => reader.isDrained).map((reader) => reader.name);
  }

  /** Returns the messages in this process by name at the broker. Empty queues are missing. */
  counts(): Record<string, MessageCounts> {
    const counts: Record<string, MessageCounts> = {};
    for (const [name, { dispatched: out, waiting, oldestMs, refusal }] of this.#readers) {
      const refused = refusal && { refused: { code: refusal.code, message: refusal.message } };
      if (out + waiting > 0 || refused) counts[name] = { out, waiting, oldestMs, ...refused };
    }
    return counts;
  }

  /** Why a partition is not consumed: a message in it is not this cluster's. */
  get refusal(): FeedctlError | undefined {
    return [...this.#readers.values()].map((reader) => reader.refusal).find((one) => one !== undefined);
  }

  reads(queue: string): boolean {
    return this.queues.includes(queue);
  }

  /** Begins to deliver when all assigned partitions are open, so that earlier queues are served first. */
  async start(): Promise<void> {
    await this.#work;
    this.#started = true;
    this.#pumpSoon();
  }

  /** Assigns partitions after the members or the topology have changed. */
  reconcile(members: readonly Member[]): void {
    if (this.#stopped) return;
    const declared = this.#context.declared();
    this.#assigned = new Map(
      this.queues.flatMap((queue) =>
        (isDurable(queue) ? assignedPartitions(this.id, queue, members, declared) : [`feed.${queue}`]).map(
          (name): [string, string] => [name, queue],
        ),
      ),
    );
    this.#work = this.#work.then(() => this.#align());
  }

  /** Opens the partitions again after a reconnection. */
  reopen(): void {
    this.#work = this.#work.then(() => this.#align());
  }

  stop(deadlineMs: number): Promise<void> {
    this.#stopped ??= (async () => {
      await this.#work;
      await Promise.all([...this.#readers.values()].map((reader) => reader.retire(deadlineMs)));
      await this.#onStopped();
    })();
    return this.#stopped;
  }

  async #align(): Promise<void> {
    if (this.#stopped) return;
    const assigned = this.#assigned;
    for (const [name, reader] of this.#readers) {
      if (assigned.has(name) || reader.retiring) continue;
      void reader.retire(Number.POSITIVE_INFINITY).then(() => {
        if (reader.retiring && this.#readers.get(name) === reader) this.#readers.delete(name);
      });
    }
    for (const [name, queue] of assigned) {
      const reader = this.#readers.get(name) ?? this.#reader(name, queue);
      if (reader.isOpen && !reader.retiring) continue;
      if (!(await reader.mayOpen())) continue;
      try {
        const connection = await this.#context.connection.ready(0);
        await reader.open(
          connection,
          isDurable(reader.queue)
            ? undefined
            : async (channel) => void (await this.#context.declareLive(channel, reader.queue)),
        );
      } catch (error) {
        // Retried at the next heartbeat, or after a reconnection.
        this.#log.warn({ queue: name, reason: messageOf(error) }, 'queue not consumed yet');
        if ((error as { code?: number }).code !== 404) return;
        await this.#context.declareTopology().catch(() => {});
      }
    }
    if (this.#started) this.#pumpSoon();
  }

  #reader(name: string, queue: string): Reader {
    const partitions = isDurable(queue) && queue !== 'cleanup' ? this.#context.declared() : 1;
    // Later queues prefetch only enough messages to begin immediately.
    const share = queue === this.queues[0] ? Math.ceil(this.#prefetch / partitions) : 0;
    const prefetch =
      queue === 'cleanup' ? this.#prefetch + CLEANUP_SLACK : Math.min(MAX_PREFETCH, share + SLACK);
    const reader = new Reader(queue, name, {
      log: this.#log,
      prefetch,
      origins: this.#context.origins,
      count: this.#context.count,
      deadLetter: this.#context.deadLetter,
      passBarriers: this.#context.passBarriers,
      onReady: () => this.#pumpSoon(),
      onConsumed: (consumed) => {
        if (!this.#stopped && !isDurable(queue)) this.#onConsumed?.(consumed);
      },
      onSettled: () => {
        this.settled[queue] = (this.settled[queue] ?? 0) + 1;
      },
      onDone: () => {
        this.#dispatched -= 1;
        this.#pumpSoon();
      },
    });
    this.#readers.set(name, reader);
    return reader;
  }

  /** Delivers after all messages of the same packet have arrived, as one batch. */
  #pumpSoon(): void {
    if (this.#pumping || !this.#started) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#stopped) return;
    const deliveries: Delivery[] = [];
    for (const queue of this.queues) {
      const readers = [...this.#readers.values()].filter((reader) => reader.queue === queue);
      // Rotates, so that no partition is always the first.
      this.#turn += 1;
      for (let i = 0; i < readers.length; i += 1) {
        const reader = readers[(i + this.#turn) % readers.length]!;
        while (this.#dispatched < this.#prefetch) {
          const message = reader.next();
          if (!message) break;
          this.#dispatched += 1;
          deliveries.push(this.#delivery(reader, message));
        }
      }
    }
    if (deliveries.length > 0) this.#onDeliveries(deliveries);
  }

  #delivery(reader: Reader, message: InFlight): Delivery {
    const { origins } = this.#context;
    let settled = false;
    const settleOnce = () => {
      if (settled) throw new Error(`a message of ${reader.name} was settled already`);
      settled = true;
    };
    return {
      queue: reader.queue,
      body: message.raw.content,
      traces: message.raw.properties.headers?.[TRACES] as string | undefined,
      attempts: message.attempts,
      get earlier() {
        return origins.isEarlier(message.origin!);
      },
      ack: () => {
        settleOnce();
        reader.ack(message);
      },
      retry: (delayMs, { counts = true } = {}) => {
        settleOnce();
        reader.retry(message, delayMs, counts);
      },
      deadLetter: (reason) => {
        settleOnce();
        reader.deadLetter(message, reason);
      },
    };
  }
}
