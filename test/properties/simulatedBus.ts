import type {
  Barrier,
  BarrierQueue,
  Bus,
  ConsumeOptions,
  Delivery,
  Outgoing,
  QueueDepth,
  QueueName,
} from '../../src/engine/bus/bus.ts';
import type { Actor, Choice, Scheduler } from './scheduler.ts';

interface Message {
  readonly id: number;
  readonly queue: QueueName;
  readonly body: Buffer;
  attempts: number;
  /** Published or requeued with a delay. */
  delayed: boolean;
  holder: SimulatedConsumer | undefined;
}

interface SimulatedConsumer {
  readonly actor: Actor;
  readonly options: ConsumeOptions;
  readonly onDeliveries: (deliveries: Delivery[]) => void;
  held: number;
  stopped: boolean;
}

/** Maximum messages of a delivery: few, for many different orders. */
const BATCH = 3;
/** Probability that an ack is lost and its message is redelivered. */
const LOST_ACK = 0.1;

/**
 * A bus in memory that delivers when the scheduler chooses: late, in any order, and again after a lost
 * ack or a crash. It keeps exactly the promises of the port.
 */
export class SimulatedBus {
  readonly #scheduler: Scheduler;
  #messages: Message[] = [];
  #consumers: SimulatedConsumer[] = [];
  #lastId = 0;
  readonly deadLetters: { queue: string; reason: string }[] = [];
  /** False at the end of a history, which otherwise might not end. */
  losesAcks = true;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
    scheduler.sources.push(() => this.#choices());
  }

  get isEmpty(): boolean {
    return this.#messages.length === 0;
  }

  /** The bus of one actor: every call is a step of that actor. Calls `onPublish` before the step. */
  port(actor: Actor, onPublish: (messages: readonly Outgoing[]) => void = () => {}): Bus {
    return {
      kind: 'simulated',
      publish: (messages) => {
        if (messages.length === 0) return Promise.resolve();
        onPublish(messages);
        return actor.step(`publish ${messages.map((message) => message.queue).join(', ')}`, () =>
          this.#publish(messages),
        );
      },
      consume: async (options, onDeliveries) => {
        const consumer: SimulatedConsumer = { actor, options, onDeliveries, held: 0, stopped: false };
        this.#consumers.push(consumer);
        return { stop: async () => this.#stop(consumer) };
      },
      partitions: () => Promise.resolve(2),
      placeBarrier: (queues) => actor.step(`mark ${queues}`, () => this.#mark(queues)),
      hasPassed: (barrier) => actor.step(`has passed ${barrier.queues}?`, () => this.#hasPassed(barrier)),
      holds: async (queues) => this.#depths().some((depth) => queues.some((queue) => queue === depth.queue)),
      depths: async () => this.#depths(),
      throughput: async () => [],
      peek: async () => [],
      dropQueue: (queue) =>
        actor.step(`drop ${queue}`, () => {
          this.#messages = this.#messages.filter((message) => message.queue !== queue);
        }),
      close: async () => {},
    };
  }

  /** Ends the consumers of an actor and requeues their messages in flight. */
  crash(actor: Actor): void {
    for (const consumer of this.#consumers.filter((one) => one.actor === actor)) this.#stop(consumer);
  }

  #stop(consumer: SimulatedConsumer): void {
    consumer.stopped = true;
    this.#consumers = this.#consumers.filter((one) => one !== consumer);
    for (const message of this.#messages) if (message.holder === consumer) message.holder = undefined;
  }

  #publish(messages: readonly Outgoing[]): void {
    for (const { queue, body, delayMs = 0 } of messages) {
      this.#lastId += 1;
      this.#messages.push({
        id: this.#lastId,
        queue,
        body: Buffer.from(body),
        attempts: 0,
        delayed: delayMs > 0,
        holder: undefined,
      });
    }
  }

  #mark(queues: readonly BarrierQueue[]): Barrier {
    return { queues, position: this.#lastId };
  }

  #hasPassed(barrier: Barrier): boolean {
    return !this.#messages.some(
      (one) => one.id <= barrier.position && (barrier.queues as readonly QueueName[]).includes(one.queue),
    );
  }

  #depths(): QueueDepth[] {
    const queues = new Set([...this.#messages, ...this.deadLetters].map((message) => message.queue));
    return [...queues].map((queue) => {
      const all = this.#messages.filter((message) => message.queue === queue);
      const unacked = all.filter((message) => message.holder).length;
      const deadLetters = this.deadLetters.filter((message) => message.queue === queue).length;
      return { queue, ready: all.length - unacked, unacked, oldestAgeMs: 0, deadLetters };
    });
  }

  #choices(): Choice[] {
    const choices: Choice[] = [];
    for (const consumer of this.#consumers) {
      const room = consumer.options.prefetch - consumer.held;
      const ready = this.#messages.filter(
        (message) => !message.holder && consumer.options.queues.includes(message.queue),
      );
      if (room <= 0 || ready.length === 0) continue;
      choices.push({
        actor: consumer.actor,
        label: `takes of ${consumer.options.queues}`,
        weight: consumer.actor.weight * (ready.every((message) => message.delayed) ? 0.1 : 1),
        inTransaction: false,
        take: () => this.#deliver(consumer, ready, room),
      });
    }
    return choices;
  }

  /** Mostly the oldest first: concurrent consumers get messages in any order. */
  #deliver(consumer: SimulatedConsumer, ready: Message[], room: number): void {
    const { random } = this.#scheduler;
    const count = 1 + random.below(Math.min(BATCH, room, ready.length));
    const rest = [...ready];
    const taken: Message[] = [];
    while (taken.length < count) {
      taken.push(...rest.splice(random.chance(0.3) ? random.below(rest.length) : 0, 1));
    }
    for (const message of taken) message.holder = consumer;
    consumer.held += taken.length;
    consumer.actor.run(() =>
      consumer.onDeliveries(taken.map((message) => this.#delivery(message, consumer))),
    );
  }

  #delivery(message: Message, consumer: SimulatedConsumer): Delivery {
    let settled = false;
    const settle = (how: () => void) => {
      if (settled) throw new Error(`message ${message.queue}/${message.id} was settled already`);
      settled = true;
      if (consumer.stopped) return; // Requeued when the consumer died.
      consumer.held -= 1;
      message.holder = undefined;
      how();
    };
    const remove = () => {
      this.#messages = this.#messages.filter((one) => one !== message);
    };
    return {
      queue: message.queue,
      body: message.body,
      attempts: message.attempts,
      ack: () =>
        settle(() => {
          if (!this.losesAcks || !this.#scheduler.random.chance(LOST_ACK)) remove();
        }),
      retry: (delayMs, { counts = true } = {}) =>
        settle(() => {
          message.attempts += counts ? 1 : 0;
          message.delayed = delayMs > 0;
        }),
      deadLetter: (reason) =>
        settle(() => {
          remove();
          this.deadLetters.push({ queue: message.queue, reason });
        }),
    };
  }
}
