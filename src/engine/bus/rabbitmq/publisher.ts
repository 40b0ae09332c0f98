import type { ConfirmChannel } from 'amqplib';
import { FeedctlError } from '../../model/errors.ts';
import type { Connection } from './connection.ts';

/** Maximum unconfirmed messages: they keep the broker busy, and limit memory and its fsyncs. */
const WINDOW_BYTES = 8 * 2 ** 20;
const WINDOW_MESSAGES = 1_000;
/** Timeout of a connection. A user's request waits for it; the sweeper publishes what fails. */
const CONNECT_MS = 2_000;
/** Timeout while the broker's alarm blocks publishers. */
const BLOCKED_MS = 10_000;
const CONFIRM_MS = 60_000;

export interface Routed {
  /** Name of the queue at the port, for errors. */
  readonly queue: string;
  readonly exchange: string;
  readonly key: string;
  readonly body: Buffer;
  readonly type?: string;
  readonly correlationId?: string;
  readonly headers?: Record<string, unknown>;
}

/** Publishes persistent, mandatory, confirmed messages over one channel, with a limit of unconfirmed ones. */
export class Publisher {
  readonly #connection: Connection;
  readonly #onRefused: (queue: string) => void;
  #channel: Promise<ConfirmChannel> | undefined;
  #messageId = 0;
  /** Unconfirmed messages by id. `returned`: no queue takes the message. */
  readonly #unconfirmed = new Map<string, { returned: boolean }>();
  #bytes = 0;
  /** Error that closed the last channel: confirms carry no reason. */
  #channelError: (Error & { code?: number }) | undefined;
  #room = Promise.withResolvers<void>();

  /** `onRefused`: called with a queue that is at its limit. */
  constructor(connection: Connection, onRefused: (queue: string) => void = () => {}) {
    this.#connection = connection;
    this.#onRefused = onRefused;
  }

  /** Forgets the channel of a lost connection. */
  reset(): void {
    this.#channel = undefined;
  }

  /**
   * Publishes messages and waits for all confirms. Returns those that no queue takes, which the broker
   * confirms too. After an error, any of the messages may have been published.
   * Throws QUEUE_FULL, BROKER_UNROUTABLE (an exchange is missing), BROKER_UNREACHABLE or BROKER_BLOCKED.
   */
  async publish(messages: readonly Routed[]): Promise<Routed[]> {
    const unroutable: Routed[] = [];
    let left = messages.length;
    if (left === 0) return unroutable;
    const channel = await this.#open();
    const confirmed = Promise.withResolvers<void>();
    // The error may reach the wait for room below first.
    confirmed.promise.catch(() => {});
    const startedAt = performance.now();
    const timer = setInterval(() => {
      if (this.#connection.blocked !== undefined || performance.now() - startedAt >= CONFIRM_MS)
        confirmed.reject(this.#explain(new Error('a message was not confirmed in time')));
    }, BLOCKED_MS);
    let failure: FeedctlError | undefined;
    const onConfirm = (message: Routed, id: string, error: Error | null) => {
      const { returned } = this.#unconfirmed.get(id)!;
      this.#unconfirmed.delete(id);
      this.#bytes -= message.body.length;
      this.#room.resolve();
      this.#room = Promise.withResolvers<void>();
      if (error?.message === 'message nacked') {
        this.#onRefused(message.queue);
        failure ??= new FeedctlError('QUEUE_FULL', `the queue ${message.queue} is at its limit`);
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
        while (this.#bytes > WINDOW_BYTES || this.#unconfirmed.size >= WINDOW_MESSAGES) {
          await Promise.race([this.#room.promise, confirmed.promise]);
          if (failure) throw failure;
        }
        const id = String(++this.#messageId);
        // Throws if the channel was closed, and then the message is not recorded below.
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
        this.#unconfirmed.set(id, { returned: false });
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
        const sent = this.#unconfirmed.get(String(message.properties.messageId));
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
