import type { ChannelModel } from 'amqplib';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import { backoffMs } from '../../util/backoff.ts';
import { connectTo } from './connect.ts';
import type { Endpoint } from './endpoints.ts';
import { brokerError } from './errors.ts';

/** Quorum queues with a time to live and dead-lettering that loses nothing came with 3.10. */
const OLDEST = [3, 10] as const;

export interface ConnectionEvents {
  /** A connection is there: channels are opened here. An error closes it again, and another is tried. */
  onUp?(connection: ChannelModel, endpoint: Endpoint): Promise<void> | void;
  /** It is gone, with all its channels. */
  onDown?(): void;
}

/** One connection that is kept up: when it breaks, the brokers are tried in turn, with backoff and jitter, for ever. */
export class Connection {
  readonly #endpoints: readonly Endpoint[];
  readonly #name: string;
  readonly #log: Log;
  readonly #events: ConnectionEvents;
  #connection: ChannelModel | undefined;
  #endpoint: Endpoint;
  /** Why the broker does not read what is sent: an alarm of memory or disk. */
  #blocked: string | undefined;
  #lastError: unknown;
  #version = '';
  #closed = false;
  #retry: NodeJS.Timeout | undefined;
  #changed = Promise.withResolvers<void>();
  #opening: Promise<void> | undefined;

  constructor(endpoints: readonly Endpoint[], name: string, log: Log, events: ConnectionEvents = {}) {
    this.#endpoints = endpoints;
    this.#endpoint = endpoints[0]!;
    this.#name = name;
    this.#log = log;
    this.#events = events;
  }

  get version(): string {
    return this.#version;
  }

  get blocked(): string | undefined {
    return this.#blocked;
  }

  /** The error of a call on this connection: where the broker closed it over that call, its reason is here. */
  explain(error: unknown): FeedctlError {
    return brokerError(this.#lastError ?? error, this.#endpoint);
  }

  /**
   * Connects for the first time, and from then on for ever again. Throws what the brokers say, the more telling the
   * better; the next call tries again.
   */
  open(): Promise<void> {
    this.#opening ??= this.#open().catch((error) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #open(): Promise<void> {
    let failure: FeedctlError | undefined;
    for (const endpoint of this.#endpoints) {
      try {
        await this.#connect(endpoint);
        return;
      } catch (error) {
        const explained = brokerError(error, endpoint);
        if (!failure || failure.code === 'BROKER_UNREACHABLE') failure = explained;
      }
    }
    throw failure!;
  }

  /** The connection, when there is one that takes messages. Throws as `open`, and BROKER_UNREACHABLE or BROKER_BLOCKED after the time. */
  async ready(timeoutMs: number, blockedMs = timeoutMs): Promise<ChannelModel> {
    if (this.#closed) throw new FeedctlError('BROKER_UNREACHABLE', 'the bus has been closed');
    await this.open();
    const startedAt = Date.now();
    for (;;) {
      if (this.#closed) throw new FeedctlError('BROKER_UNREACHABLE', 'the bus has been closed');
      if (this.#connection && this.#blocked === undefined) return this.#connection;
      const left = startedAt + (this.#connection ? blockedMs : timeoutMs) - Date.now();
      if (left <= 0) {
        if (this.#blocked !== undefined) {
          throw new FeedctlError(
            'BROKER_BLOCKED',
            `the broker ${this.#endpoint.shown} takes no messages: ${this.#blocked}`,
          );
        }
        throw this.explain(new Error('the connection is lost'));
      }
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((done) => {
        timer = setTimeout(done, left);
      });
      await Promise.race([this.#changed.promise, timeout]);
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#change();
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.close().catch(() => {});
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  async #connect(endpoint: Endpoint): Promise<void> {
    const connection = await connectTo(endpoint, { connection_name: this.#name });
    this.#version = String(connection.connection.serverProperties.version);
    this.#endpoint = endpoint;
    this.#lastError = undefined;
    let down = false;
    // Without a listener an 'error' would end the process.
    connection.on('error', (error) => {
      this.#lastError = error;
    });
    connection.on('close', (error) => {
      down = true;
      this.#lastError ??= error;
      this.#lost(connection);
    });
    connection.on('blocked', (reason) => {
      this.#blocked = reason;
      this.#log.warn({ connection: this.#name, reason }, 'the broker takes no messages');
      this.#change();
    });
    connection.on('unblocked', () => {
      this.#blocked = undefined;
      this.#change();
    });
    try {
      checkVersion(this.#version, endpoint);
      await this.#events.onUp?.(connection, endpoint);
      if (down) throw this.#lastError ?? new Error('the connection is lost');
    } catch (error) {
      const reason = this.#lastError ?? error;
      await connection.close().catch(() => {});
      throw reason;
    }
    if (this.#closed) {
      await connection.close().catch(() => {});
      return;
    }
    this.#connection = connection;
    this.#change();
  }

  #lost(connection: ChannelModel): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#blocked = undefined;
    this.#events.onDown?.();
    if (this.#closed) return;
    this.#log.warn(
      { connection: this.#name, reason: messageOf(this.#lastError ?? 'closed') },
      'broker connection lost',
    );
    this.#reconnect(1);
  }

  #reconnect(attempt: number): void {
    const endpoint = this.#endpoints[attempt % this.#endpoints.length]!;
    this.#retry = setTimeout(async () => {
      try {
        await this.#connect(endpoint);
        this.#log.info({ connection: this.#name, broker: endpoint.shown }, 'broker connected again');
      } catch (error) {
        this.#lastError = error;
        const { message } = brokerError(error, endpoint);
        this.#log.warn({ connection: this.#name, attempt, reason: message }, 'broker not connected');
        if (!this.#closed) this.#reconnect(attempt + 1);
      }
    }, backoffMs(attempt));
  }
}

/** Throws BROKER_TOO_OLD. */
export function checkVersion(version: string, endpoint: Endpoint): void {
  const [major, minor] = version.split('.').map(Number) as [number, number];
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
  throw new FeedctlError(
    'BROKER_TOO_OLD',
    `the broker ${endpoint.shown} is RabbitMQ ${version}; ${OLDEST.join('.')} or newer is needed`,
  );
}
