import type { ConfirmChannel } from 'amqplib';
import { FeedctlError } from '../../model/errors.ts';
import type { Connection } from './connection.ts';

/** Not confirmed yet at a time: enough to keep the broker busy, few enough to keep memory and its fsyncs in bounds. */
const WINDOW_BYTES = 8 * 2 ** 20;
const WINDOW_MESSAGES = 1_000;
/** A user waits for this: what cannot be published soon is left to the sweeper. */
const CONNECT_MS = 2_000;
/** A broker with an alarm holds its producers up, but not for ever. */
const BLOCKED_MS = 10_000;
const CONFIRM_MS = 60_000;

export interface Routed {
  /** As the port calls it: for what is said of it. */
  readonly queue: string;
  readonly exchange: string;
  readonly key: string;
  readonly body: Buffer;
  readonly type?: string;
  readonly correlationId?: string;
  readonly headers?: Record<string, unknown>;
}

/** Publishes persistently, mandatory and confirmed, in windows over one channel. */
export class Publisher {
  readonly #connection: Connection;
  readonly #onRefused: (queue: string) => void;
  #channel: Promise<ConfirmChannel> | undefined;
  #messageId = 0;
  /** Messages under way that the broker has given back as unroutable, by id. */
  readonly #underWay = new Map<string, { returned: boolean }>();
  #bytes = 0;
  /** Why the last channel was closed: confirms are told no reason. */
  #channelError: (Error & { code?: number }) | undefined;
  #room = Promise.withResolvers<void>();

  /** `onRefused`: a queue is at its bound. */
  constructor(connection: Connection, onRefused: (queue: string) => void = () => {}) {
    this.#connection = connection;
    this.#onRefused = onRefused;
  }

  /** To be called when the connection is gone. */
  reset(): void {
    this.#channel = undefined;
  }

  /**
   * Resolves when all are confirmed, and returns those that no queue took: the broker confirms them all the same.
   * Throws QUEUE_FULL, BROKER_UNROUTABLE (an exchange is missing), BROKER_UNREACHABLE or BROKER_BLOCKED, and then any
   * of them may have been published.
   */
  async publish(messages: readonly Routed[]): Promise<Routed[]> {
    const unroutable: Routed[] = [];
    let left = messages.length;
    if (left === 0) return unroutable;
    const channel = await this.#open();
    const confirmed = Promise.withResolvers<void>();
    // Whoever waits for room below may be told first.
    confirmed.promise.catch(() => {});
    const startedAt = Date.now();
    const timer = setInterval(() => {
      if (this.#connection.blocked !== undefined || Date.now() - startedAt >= CONFIRM_MS)
        confirmed.reject(this.#explain(new Error('a message was not confirmed in time')));
    }, BLOCKED_MS);
    let failure: FeedctlError | undefined;
    const onConfirm = (message: Routed, id: string, error: Error | null) => {
      const { returned } = this.#underWay.get(id)!;
      this.#underWay.delete(id);
      this.#bytes -= message.body.length;
      this.#room.resolve();
      this.#room = Promise.withResolvers<void>();
      if (error?.message === 'message nacked') {
        this.#onRefused(message.queue);
        failure ??= new FeedctlError('QUEUE_FULL', `the queue ${message.queue} is at its bound`);
      } else if (error) {
        failure ??= this.#explain(error);
      } else if (returned) {
        unroutable.push(message);
      }
      left -= 1;
      if (left === 0) {
        if (failure) confirmed.reject(failure);
        else confirmed.resolve();
      }
    };
    try {
      for (const message of messages) {
        while (this.#bytes > WINDOW_BYTES || this.#underWay.size >= WINDOW_MESSAGES) {
          await Promise.race([this.#room.promise, confirmed.promise]);
          if (failure) throw failure;
        }
        const id = String(++this.#messageId);
        // Throws where the channel has been closed meanwhile, and then takes no note of the message.
        channel.publish(
          message.exchange,
          message.key,
          message.body,
          {
            persistent: true,
            mandatory: true,
            messageId: id,
            timestamp: Math.floor(Date.now() / 1000),
            ...(message.type !== undefined && { type: message.type }),
            ...(message.correlationId !== undefined && { correlationId: message.correlationId }),
            ...(message.headers && { headers: message.headers }),
          },
          (error: Error | null) => onConfirm(message, id, error),
        );
        this.#underWay.set(id, { returned: false });
        this.#bytes += message.body.length;
      }
      await confirmed.promise;
      return unroutable;
    } catch (error) {
      throw this.#explain(error);
    } finally {
      clearInterval(timer);
    }
  }

  #explain(error: unknown): FeedctlError {
    const reason = this.#channelError;
    if (reason?.code === 404)
      return new FeedctlError('BROKER_UNROUTABLE', `the broker lacks an exchange: ${reason.message}`);
    if (this.#connection.blocked !== undefined)
      return new FeedctlError('BROKER_BLOCKED', `the broker takes no messages: ${this.#connection.blocked}`);
    return this.#connection.explain(reason ?? error);
  }

  async #open(): Promise<ConfirmChannel> {
    const connection = await this.#connection.ready(CONNECT_MS, BLOCKED_MS);
    this.#channel ??= connection.createConfirmChannel().then((channel) => {
      this.#channelError = undefined;
      channel.on('error', (error) => {
        this.#channelError = error;
      });
      channel.on('close', () => {
        this.#channel = undefined;
      });
      channel.on('return', (message) => {
        const sent = this.#underWay.get(String(message.properties.messageId));
        if (sent) sent.returned = true;
      });
      return channel;
    });
    try {
      return await this.#channel;
    } catch (error) {
      this.#channel = undefined;
      throw this.#connection.explain(error);
    }
  }
}
