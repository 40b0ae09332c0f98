import { randomUUID } from 'node:crypto';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { FeedctlError } from '../../model/errors.ts';
import type { Connection } from './connection.ts';
import type { Endpoint } from './endpoints.ts';
import { brokerError } from './errors.ts';

/** Prefix of the names at the broker of what is there only to be looked at. */
export const PROBE = 'feed.probe';
/** Maximum time until the broker has confirmed a message and handed it out again. */
const ANSWER_MS = 3_000;
/** Age from which the last answer of the broker is too old. */
const EVERY_MS = 5_000;
/** Time after which a broker that took no message is asked again. */
const AGAIN_MS = 1_000;

/**
 * Publishes messages as a role does, mandatory and with a confirm, and receives them: through an exchange,
 * to a queue that only this connection can use. The broker deletes the queue with the connection. Each
 * message has its own channel, because the broker keeps the permissions of a channel until it is closed.
 */
export class Trials {
  readonly #connection: ChannelModel;
  readonly #endpoint: Endpoint;
  /** A direct exchange, or '' for the broker's own one. */
  readonly #exchange: string;
  /** Name of the queue, once it is consumed. */
  #queue: Promise<string> | undefined;
  /** Called with the arrival of a message, by its id. */
  readonly #awaited = new Map<string, () => void>();

  constructor(connection: ChannelModel, endpoint: Endpoint, exchange: string) {
    this.#connection = connection;
    this.#endpoint = endpoint;
    this.#exchange = exchange;
  }

  /**
   * Publishes one message. Throws BROKER_BLOCKED (an alarm, or no answer), BROKER_UNROUTABLE, BROKER_REFUSED
   * (a permission is missing) or another BROKER_ code.
   */
  async run(): Promise<void> {
    const { promise: blocked, reject } = Promise.withResolvers<never>();
    const takesNone = (why: string) =>
      reject(
        new FeedctlError('BROKER_BLOCKED', `the broker ${this.#endpoint.shown} takes no messages: ${why}`),
      );
    const timer = setTimeout(takesNone, ANSWER_MS, 'it does not confirm them');
    this.#connection.on('blocked', takesNone);
    try {
      await Promise.race([this.#publish(), blocked]);
    } catch (error) {
      throw brokerError(error, this.#endpoint);
    } finally {
      this.#connection.off('blocked', takesNone);
      clearTimeout(timer);
    }
  }

  async #publish(): Promise<void> {
    this.#queue ??= this.#consume();
    const queue = await this.#queue.catch((error) => {
      this.#queue = undefined;
      throw error;
    });
    const messageId = randomUUID();
    const arrived = Promise.withResolvers<void>();
    this.#awaited.set(messageId, arrived.resolve);
    try {
      const channel = await this.#connection.createConfirmChannel();
      const failed = failureOf(channel);
      channel.on('return', () => {
        this.#queue = undefined;
        const why = `the broker has lost the queue ${queue} or its binding`;
        arrived.reject(new FeedctlError('BROKER_UNROUTABLE', why));
      });
      const confirmed = new Promise<void>((done, fail) => {
        const options = { persistent: true, mandatory: true, messageId };
        channel.publish(this.#exchange, queue, Buffer.alloc(0), options, (error: Error | null) =>
          error ? fail(error) : done(),
        );
      });
      await failed(Promise.all([confirmed, arrived.promise]));
      // The broker reads nothing more of a connection that it blocks: with this answer there is no alarm.
      await channel.close();
    } finally {
      this.#awaited.delete(messageId);
    }
  }

  /** Declares a queue and consumes it. Returns its name. */
  async #consume(): Promise<string> {
    const name = `${PROBE}.${randomUUID()}`;
    const channel = await this.#connection.createChannel();
    const failed = failureOf(channel);
    channel.on('close', () => {
      this.#queue = undefined;
    });
    // The default type of the virtual host may be quorum, which no queue of one connection can have.
    const queue = { exclusive: true, autoDelete: true, arguments: { 'x-queue-type': 'classic' } };
    await failed(channel.assertQueue(name, queue));
    if (this.#exchange !== '') await failed(channel.bindQueue(name, this.#exchange, name));
    const take = (message: ConsumeMessage | null) =>
      message ? this.#awaited.get(message.properties.messageId)?.() : void channel.close();
    await failed(channel.consume(name, take, { noAck: true }));
    return name;
  }
}

/** Returns a function that waits for work on a channel, and throws why the broker has closed the channel. */
function failureOf(channel: Channel): <T>(work: Promise<T>) => Promise<T> {
  let reason: unknown;
  channel.on('error', (error) => {
    reason = error;
  });
  return async (work) => {
    try {
      return await work;
    } catch (error) {
      // It arrives a moment after the error.
      await new Promise((done) => setImmediate(done));
      throw reason ?? error;
    }
  };
}

/**
 * What the broker did with the last message that a role has published to itself. Asks again with each new
 * connection, and when an answer is older than 5 s: an alarm blocks a connection only once it publishes.
 */
export class Probe {
  readonly #connection: Connection;
  readonly #exchange: string;
  /** Declares what is missing at the broker. */
  readonly #declare: () => Promise<void>;
  #of: ChannelModel | undefined;
  #trials: Trials | undefined;
  #running: Promise<void> | undefined;
  #answered: { readonly at: number; readonly error?: unknown } | undefined;

  constructor(connection: Connection, exchange: string, declare: () => Promise<void>) {
    this.#connection = connection;
    this.#exchange = exchange;
    this.#declare = declare;
  }

  /** Throws what the last message has met on this connection. Waits for the first answer only. */
  async check(connection: ChannelModel): Promise<void> {
    if (this.#of !== connection) {
      this.#of = connection;
      this.#trials = new Trials(connection, this.#connection.endpoint, this.#exchange);
      this.#running = undefined;
      this.#answered = undefined;
    }
    const { at = Number.NEGATIVE_INFINITY, error } = this.#answered ?? {};
    if (performance.now() - at >= (error ? AGAIN_MS : EVERY_MS)) this.#run(this.#trials!);
    if (!this.#answered) await this.#running;
    if (this.#answered?.error) throw this.#answered.error;
  }

  #run(trials: Trials): void {
    if (this.#running) return;
    const running = this.#publish(trials)
      .then(
        () => ({ at: performance.now() }),
        (error: unknown) => ({ at: performance.now(), error }),
      )
      .then((answered) => {
        // Another connection may have replaced this one meanwhile.
        if (this.#running !== running) return;
        this.#answered = answered;
        this.#running = undefined;
      });
    this.#running = running;
  }

  async #publish(trials: Trials): Promise<void> {
    try {
      await trials.run();
    } catch (error) {
      // The broker was set up again.
      if (!/NOT_FOUND - no exchange/.test(String(error))) throw error;
      await this.#declare();
      await trials.run();
    }
  }
}
