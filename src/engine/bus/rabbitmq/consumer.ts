import { randomUUID } from 'node:crypto';
import type { Channel } from 'amqplib';
import { messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import type { ConsumeOptions, Consumer, Delivery } from '../bus.ts';
import type { Connection } from './connection.ts';
import type { InFlight } from './inFlight.ts';
import { assignedPartitions, type HeldCounts, type Member } from './membership.ts';
import { isDurable } from './queueNames.ts';
import { Reader, type ReaderContext, TRACES } from './reader.ts';

/** Messages that wait for the end of a delay stay in hand, and others have to get past them. */
const SLACK = 4;
/** The broker's client buffers acks past 32 commands that are under way, and a fence would overtake them. */
const MAX_CHANNELS = 24;
/** Small, waiting for marks most of the time, and without marks of their own. */
const CLEANUP_SLACK = 500;

export interface ConsumerContext extends Pick<ReaderContext, 'log' | 'deadLetter' | 'passBarriers'> {
  readonly connection: Connection;
  declared(): number;
  /** Makes the queue of a gateway. Returns its name at the broker. */
  declareLive(channel: Channel, queue: string): Promise<string>;
  /** Makes what is missing at the broker. */
  declareTopology(): Promise<void>;
}

/** Reads some queues, each partition as long as it is this consumer's, and hands messages out in the order asked for. */
export class RabbitConsumer implements Consumer {
  readonly id = randomUUID();
  readonly queues: readonly string[];
  /** Messages that have left each queue by this consumer. */
  readonly settled: Record<string, number> = {};
  readonly #context: ConsumerContext;
  readonly #prefetch: number;
  readonly #onDeliveries: (deliveries: Delivery[]) => void;
  readonly #onConsumed: ConsumeOptions['onConsumed'];
  readonly #onStopped: () => Promise<void>;
  readonly #log: Log;
  /** By name at the broker, in the order of the queues. */
  readonly #readers = new Map<string, Reader>();
  /** Names at the broker that are this consumer's now, and their queues. */
  #owned: ReadonlyMap<string, string> = new Map();
  #handed = 0;
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

  /** Names at the broker of what is consumed now. */
  get open(): string[] {
    return [...this.#readers.values()].filter((reader) => reader.isOpen).map((reader) => reader.name);
  }

  /** By name at the broker; queues of which nothing is here are left out. */
  held(): Record<string, HeldCounts> {
    const held: Record<string, HeldCounts> = {};
    for (const [name, { out, waiting, oldestMs }] of this.#readers)
      if (out + waiting > 0) held[name] = { out, waiting, oldestMs };
    return held;
  }

  reads(queue: string): boolean {
    return this.queues.includes(queue);
  }

  /** Resolves when everything that is this consumer's is open: earlier queues are served first from the start. */
  async start(): Promise<void> {
    await this.#work;
    this.#started = true;
    this.#pumpSoon();
  }

  /** Which partitions are this consumer's now. */
  reconcile(members: readonly Member[]): void {
    if (this.#stopped) return;
    const declared = this.#context.declared();
    this.#owned = new Map(
      this.queues.flatMap((queue) =>
        (isDurable(queue) ? assignedPartitions(this.id, queue, members, declared) : [`feed.${queue}`]).map(
          (name): [string, string] => [name, queue],
        ),
      ),
    );
    this.#work = this.#work.then(() => this.#align());
  }

  /** The connection is back. */
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
    const owned = this.#owned;
    for (const [name, reader] of this.#readers) {
      if (owned.has(name) || reader.retiring) continue;
      void reader.retire(Number.POSITIVE_INFINITY).then(() => {
        if (reader.retiring && this.#readers.get(name) === reader) this.#readers.delete(name);
      });
    }
    for (const [name, queue] of owned) {
      const reader = this.#readers.get(name) ?? this.#reader(name, queue);
      if (reader.isOpen && !reader.retiring) continue;
      try {
        const connection = await this.#context.connection.ready(0);
        await reader.open(
          connection,
          isDurable(reader.queue)
            ? undefined
            : async (channel) => void (await this.#context.declareLive(channel, reader.queue)),
        );
      } catch (error) {
        // Tried again with the next beat, or when the connection is back.
        this.#log.warn({ queue: name, reason: messageOf(error) }, 'queue not consumed yet');
        if ((error as { code?: number }).code !== 404) return;
        await this.#context.declareTopology().catch(() => {});
      }
    }
    if (this.#started) this.#pumpSoon();
  }

  #reader(name: string, queue: string): Reader {
    const partitions = isDurable(queue) && queue !== 'cleanup' ? this.#context.declared() : 1;
    // Of later queues just enough is kept here to begin with at once.
    const share = queue === this.queues[0] ? Math.ceil(this.#prefetch / partitions) : 0;
    const prefetch =
      queue === 'cleanup' ? this.#prefetch + CLEANUP_SLACK : Math.min(MAX_CHANNELS, share + SLACK);
    const reader = new Reader(queue, name, {
      log: this.#log,
      prefetch,
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
        this.#handed -= 1;
        this.#pumpSoon();
      },
    });
    this.#readers.set(name, reader);
    return reader;
  }

  /** After the messages that came in the same packet: a batch is handed out at once. */
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
      // No partition is always the first.
      this.#turn += 1;
      for (let i = 0; i < readers.length; i += 1) {
        const reader = readers[(i + this.#turn) % readers.length]!;
        while (this.#handed < this.#prefetch) {
          const message = reader.next();
          if (!message) break;
          this.#handed += 1;
          deliveries.push(this.#delivery(reader, message));
        }
      }
    }
    if (deliveries.length > 0) this.#onDeliveries(deliveries);
  }

  #delivery(reader: Reader, message: InFlight): Delivery {
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
