import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import pg from 'pg';
import type { ServerUrl } from '../util/serverUrl.ts';
import { isUserRefused, Misfit, misfitOf, reachHost, readServerState } from './hosts.ts';
import { driverUrl } from './url.ts';

export const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Ids have 53 bits, and counters stay far below that. So a bigint column becomes a JavaScript
 * number.
 */
const INT8 = 20;
/** A day has no time zone, so it stays text. */
const DATE = 1082;
const parsers: Record<number, (text: string) => unknown> = { [INT8]: Number, [DATE]: String };

/** Converts the columns of every session. */
export const columnTypes: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    (format !== 'binary' && parsers[oid]) ||
    pg.types.getTypeParser(oid, format as 'text')) as typeof pg.types.getTypeParser,
};

/**
 * Detects a network that drops packets silently. Without these settings the server would keep the
 * locks of a lost client for two hours, and a listener would wait as long.
 */
export const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelayMillis: 10_000 } as const;
const SERVER_KEEPS_ALIVE = {
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '4',
  tcp_user_timeout: '30000',
} as const;
/**
 * JIT compilation is on by default. For a statement with thousands of keys it takes longer than the
 * execution.
 */
const NEVER_COMPILED = { jit: 'off' } as const;

/** Returns the `options` of a connection: settings of the server for its session. */
export const sessionOptions = (settings: Readonly<Record<string, string>> = {}): string =>
  Object.entries({ ...SERVER_KEEPS_ALIVE, ...NEVER_COMPILED, ...settings })
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(' ');

interface Wired {
  readonly connection: EventEmitter & { readonly stream: Socket; end(): void };
}

/**
 * Returns the socket of a session. Destroying it frees a session whose server or network does not
 * answer.
 */
export const socketOf = (session: pg.ClientBase): Socket => (session as unknown as Wired).connection.stream;

export interface SessionConfig extends pg.ClientConfig {
  readonly server: ServerUrl;
}

/** The pool closes the socket after the whole time, and then the driver does not know why it was closed. */
const OWN_SHARE = 0.95;

/**
 * A session of the first host that fits, as the URL says. The URL is read again for each session, and at
 * once if the server refuses the password.
 *
 * The driver knows one host, and its pool makes a client before it connects. So this client takes over the
 * state of a new one for each host that it tries, and tells its listeners only of the host that fits.
 */
export class SessionClient extends pg.Client {
  readonly #config: SessionConfig;
  #state: 'new' | 'connecting' | 'open' = 'new';
  #ended = false;

  constructor(config: SessionConfig) {
    super();
    this.#config = config;
  }

  override connect(): Promise<this>;
  override connect(callback: (error: Error) => void): void;
  override connect(callback?: (error: Error) => void): Promise<this> | undefined {
    const opened = this.#open();
    if (!callback) return opened;
    const answer = (error: unknown) => process.nextTick(callback, error as Error);
    opened.then(() => answer(undefined), answer);
    return undefined;
  }

  override end(): Promise<void>;
  override end(callback: (error: Error) => void): void;
  override end(callback?: (error: Error) => void): Promise<void> | undefined {
    this.#ended = true;
    if (this.#state === 'open') {
      if (!callback) return super.end();
      super.end(callback);
      return undefined;
    }
    // An attempt to connect ends with an error.
    socketOf(this).destroy();
    if (!callback) return Promise.resolve();
    process.nextTick(callback);
    return undefined;
  }

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    // `connect` rejects for an attempt that fails.
    const hidden = this.#state === 'connecting' && (event === 'error' || event === 'end');
    return !hidden && super.emit(event as 'end', ...(values as []));
  }

  async #open(): Promise<this> {
    const { server, connectionTimeoutMillis: timeoutMs = CONNECT_TIMEOUT_MS } = this.#config;
    this.#state = 'connecting';
    const deadline = performance.now() + timeoutMs * OWN_SHARE;
    const url = await server.latest();
    try {
      await this.#reach(url, deadline);
    } catch (error) {
      if (!isUserRefused(error)) throw error;
      const another = await server.afterRefusal(url);
      if (another === url) throw error;
      await this.#reach(another, deadline);
    }
    this.#state = 'open';
    return this;
  }

  async #reach(url: string, deadline: number): Promise<void> {
    const { server } = this.#config;
    const options = { timeoutMs: Math.max(0, deadline - performance.now()), first: server.lastHost };
    server.lastHost = await reachHost(url, options, async (host, target, limitMs) => {
      let late = false;
      this.#renew(host.url);
      const timer = setTimeout(() => {
        late = true;
        socketOf(this).destroy();
      }, limitMs);
      try {
        await super.connect();
        const misfit = target && misfitOf(target, await readServerState(this));
        if (misfit) throw new Misfit(misfit);
      } catch (error) {
        this.#leave(error);
        throw late ? new Error('timeout expired') : error;
      } finally {
        clearTimeout(timer);
      }
    });
  }

  /** Makes this a client that has not connected yet. Listeners stay. */
  #renew(url: string): void {
    if (this.#ended) throw new Error('Connection terminated');
    const { server: _, ...config } = this.#config;
    const client = new pg.Client({ ...config, connectionString: driverUrl(url) });
    const listening = new Set(Object.keys(new EventEmitter()));
    const state = Object.entries(client).filter(([name]) => !listening.has(name));
    Object.assign(this, Object.fromEntries(state));
    // The driver hides the password from logs.
    Object.defineProperty(this, 'password', { value: client.password, writable: true });
    // The driver leaves the socket open after a missing password, and the process would never end.
    (this as unknown as Wired).connection.on('error', () => socketOf(this).destroy());
  }

  /** Drops the connection of an attempt, with everything that it would still report. */
  #leave(error: unknown): void {
    const { connection } = this as unknown as Wired;
    connection.removeAllListeners();
    connection.on('error', () => {});
    if (error instanceof Misfit) connection.end();
    else socketOf(this).destroy();
  }
}
