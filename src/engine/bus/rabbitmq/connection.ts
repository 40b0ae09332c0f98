import type { ChannelModel } from 'amqplib';
import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import { backoffMs } from '../../util/backoff.ts';
import type { ServerUrl } from '../../util/serverUrl.ts';
import { connectTo } from './connect.ts';
import { type Endpoint, parseEndpoints } from './endpoints.ts';
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
  readonly #brokers: ServerUrl;
  readonly #name: string;
  readonly #log: Log;
  readonly #events: ConnectionEvents;
  #connection: ChannelModel | undefined;
  #endpoint: Endpoint;
  /** Reason of the broker's alarm (memory or disk) while it reads no messages. */
  #blocked: string | undefined;
  #lastError: unknown;
  #version = '';
  #serverName: string | undefined;
  #closed = false;
  #retry: NodeJS.Timeout | undefined;
  #changed = Promise.withResolvers<void>();
  #opening: Promise<void> | undefined;

  /** Throws CONFIG_INVALID. */
  constructor(brokers: ServerUrl, name: string, log: Log, events: ConnectionEvents = {}) {
    this.#brokers = brokers;
    this.#endpoint = parseEndpoints(brokers.current)[0]!;
    this.#name = name;
    this.#log = log;
    this.#events = events;
  }

  get version(): string {
    return this.#version;
  }

  /** Name of the brokers that work together, and the virtual host. undefined before the first connection. */
  get serverName(): string | undefined {
    return this.#serverName;
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
    for (const place of parseEndpoints(this.#brokers.current).keys()) {
      try {
        await this.#dial(place);
        return;
      } catch (error) {
        if (!failure || failure.code === 'BROKER_UNREACHABLE') failure = error as FeedctlError;
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
    const startedAt = performance.now();
    for (;;) {
      if (this.#closed) throw new FeedctlError('BROKER_UNREACHABLE', 'the bus has been closed');
      if (this.#connection && this.#blocked === undefined) return this.#connection;
      const left = startedAt + (this.#connection ? blockedMs : timeoutMs) - performance.now();
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

  /**
   * Connects to the broker at a place of the list, which goes round. Reads the URL again for each connection,
   * and at once if the broker refuses the password. Throws FeedctlErrors.
   */
  async #dial(place: number): Promise<void> {
    const connect = async (url: string) => {
      const endpoints = parseEndpoints(url);
      const endpoint = endpoints[place % endpoints.length]!;
      await this.#connect(endpoint).catch((error) => Promise.reject(brokerError(error, endpoint)));
    };
    const url = await this.#brokers.latest();
    try {
      await connect(url);
    } catch (error) {
      const another = isFeedctlError(error, 'BROKER_REFUSED') ? await this.#brokers.afterRefusal(url) : url;
      if (another === url) throw error;
      await connect(another);
    }
  }

  async #connect(endpoint: Endpoint): Promise<void> {
    const connection = await connectTo(endpoint, { connection_name: this.#name });
    const { version, cluster_name: name } = connection.connection.serverProperties;
    this.#version = String(version);
    this.#serverName = name ? `${name}/${endpoint.vhost}` : undefined;
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
    this.#retry = setTimeout(async () => {
      try {
        await this.#dial(attempt);
        this.#log.info({ connection: this.#name, broker: this.#endpoint.shown }, 'broker connected again');
      } catch (error) {
        this.#lastError = error;
        this.#log.warn({ connection: this.#name, attempt, reason: messageOf(error) }, 'broker not connected');
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
