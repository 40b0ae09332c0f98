import type { ChannelModel } from 'amqplib';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import { backoffMs } from '../../util/backoff.ts';
import { connectTo } from './connect.ts';
import type { Endpoint } from './endpoints.ts';
import { brokerError } from './errors.ts';

/** Oldest version whose quorum queues dead-letter at least once. */
const OLDEST = [3, 10] as const;

export interface ConnectionEvents {
  /** Called with a new connection, to open channels. An error closes it, and the next broker is tried. */
  onUp?(connection: ChannelModel, endpoint: Endpoint): Promise<void> | void;
  /** Called when the connection is lost, with all its channels. */
  onDown?(): void;
}

/** A connection that reconnects: when it breaks, it tries the brokers in turn, with backoff and jitter. */
export class Connection {
  readonly #endpoints: readonly Endpoint[];
  readonly #name: string;
  readonly #log: Log;
  readonly #events: ConnectionEvents;
  #connection: ChannelModel | undefined;
  #endpoint: Endpoint;
  /** Reason of the broker's alarm (memory or disk) while it reads no messages. */
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

  /** The broker of the present connection, or of the last one. */
  get endpoint(): Endpoint {
    return this.#endpoint;
  }

  get blocked(): string | undefined {
    return this.#blocked;
  }

  /** Explains the error of a call. Prefers the reason for which the broker has closed the connection. */
  explain(error: unknown): FeedctlError {
    return brokerError(this.#lastError ?? error, this.#endpoint);
  }

  /**
   * Connects, and reconnects from then on. Throws the most specific error of the brokers. After an
   * error the next call tries again.
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

  /**
   * Waits for a connection that takes messages. Throws as `open`, BROKER_UNREACHABLE after `timeoutMs`
   * and BROKER_BLOCKED after `blockedMs`.
   */
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

  /** Gives the present connection up, and connects again as if it had broken. */
  async drop(reason: unknown): Promise<void> {
    const connection = this.#connection;
    if (!connection) return;
    this.#lastError = reason;
    this.#lost(connection);
    await connection.close().catch(() => {});
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
    // An 'error' without a listener would end the process.
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
