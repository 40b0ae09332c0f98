import pg from 'pg';
import { FeedctlError } from '../model/errors.ts';
import { Coalesced } from '../util/coalesce.ts';
import type { ServerUrl } from '../util/serverUrl.ts';
import { everyTick } from '../util/ticks.ts';
import { explainError } from './errors.ts';
import { CONNECT_TIMEOUT_MS, columnTypes, KEEP_ALIVE, SessionClient, socketOf } from './session.ts';
import { checkSessionsKept } from './usable.ts';

export interface Listener {
  /**
   * Returns when every notification that was sent before this call has been handled. It makes a
   * round trip on the listening session, whose notifications arrive ahead of the answer. Rejects
   * after 5 s.
   */
  barrier(): Promise<void>;
  /** Replaces the connection: the next one may lead to another server. */
  reconnect(): void;
  close(): Promise<void>;
}

export interface ListenHandlers {
  onNotify(channel: string, payload: string): void;
  /** Runs after each connect, on the session that listens. */
  onListening?(session: pg.Client): void | Promise<void>;
  /** Notifications between this call and the next `onListening` are lost. */
  onLost?(): void;
}

/** A listening session is idle, so it answers a ping immediately. */
const PING_TIMEOUT_MS = 5_000;
const PING_INTERVAL_MS = 10_000;
const FIRST_RETRY_MS = 200;
const RETRY_MS = 500;

/** Returns a random delay, so that processes do not reconnect at the same moment. */
const jittered = (ms: number, spreadMs: number): number => ms + Math.random() * spreadMs;

/**
 * Throws DATABASE_POOLED if notifications do not arrive here. A direct connection greets with the
 * process of the server that runs its statements. A pooler greets with a number of its choice, so its
 * sessions are checked.
 */
async function checkKept(session: pg.Client, server: ServerUrl): Promise<void> {
  const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
  const { processID } = session as unknown as { processID: number | null };
  if (rows[0]!.pid !== processID) await checkSessionsKept(server);
}

/**
 * Listens on channels with its own connection. Replaces that connection when it breaks or does not
 * answer.
 */
export class ListeningSession implements Listener {
  readonly #server: ServerUrl;
  readonly #listen: string;
  readonly #handlers: ListenHandlers;
  /** The connection that listens. */
  #session: pg.Client | undefined;
  /** The connection that is about to listen. */
  #connecting: pg.Client | undefined;
  #closed = false;
  #retryTimer: NodeJS.Timeout | undefined;
  #endPings: (() => void) | undefined;
  /** A session runs one statement at a time: calls during a round trip share the next one. */
  readonly #roundTrips = new Coalesced(() => this.#roundTrip());

  private constructor(server: ServerUrl, channels: readonly string[], handlers: ListenHandlers) {
    this.#server = server;
    this.#listen = channels.map((channel) => `listen ${pg.escapeIdentifier(channel)}`).join('; ');
    this.#handlers = handlers;
  }

  /** Rejects if the first connection fails. The caller decides about another attempt. */
  static async open(
    server: ServerUrl,
    channels: readonly string[],
    handlers: ListenHandlers,
  ): Promise<ListeningSession> {
    const listener = new ListeningSession(server, channels, handlers);
    await listener.#connect();
    listener.#endPings = everyTick(PING_INTERVAL_MS, () => void listener.barrier().catch(() => {}));
    return listener;
  }

  barrier(): Promise<void> {
    return this.#roundTrips.run();
  }

  reconnect(): void {
    const session = this.#session ?? this.#connecting;
    if (session) socketOf(session).destroy();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    this.#endPings?.();
    await Promise.all([this.#session?.end(), this.#connecting?.end()]).catch(() => {});
  }

  async #connect(): Promise<void> {
    const session = this.#open();
    this.#connecting = session;
    const connection = { alive: true };
    const onEnd = () => {
      connection.alive = false;
      this.#lost(session);
    };
    session.on('error', onEnd);
    session.on('end', onEnd);
    session.on('notification', ({ channel, payload }) => this.#handlers.onNotify(channel, payload ?? ''));
    const timer = setTimeout(() => socketOf(session).destroy(), CONNECT_TIMEOUT_MS);
    let listening = false;
    try {
      await session.connect();
      await session.query(this.#listen);
      listening = true;
      await checkKept(session, this.#server);
      await this.#handlers.onListening?.(session);
      if (!connection.alive || this.#closed) throw new Error('Connection terminated');
      this.#session = session;
    } catch (error) {
      if (listening) this.#handlers.onLost?.();
      await session.end().catch(() => {});
      throw explainError(error, this.#server.current);
    } finally {
      clearTimeout(timer);
      this.#connecting = undefined;
    }
  }

  #open(): pg.Client {
    return new SessionClient({
      server: this.#server,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      application_name: 'feedctl listener',
      ...KEEP_ALIVE,
      types: columnTypes,
    });
  }

  /** Ignores connections that never listened: `#connect` rejects for them. */
  #lost(session: pg.Client): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#handlers.onLost?.();
    this.#reconnectIn(jittered(FIRST_RETRY_MS, 300));
  }

  #reconnectIn(ms: number): void {
    if (this.#closed) return;
    this.#retryTimer = setTimeout(() => {
      this.#connect().catch(() => this.#reconnectIn(jittered(RETRY_MS, 500)));
    }, ms);
  }

  async #roundTrip(): Promise<void> {
    const session = this.#session;
    if (!session) throw new FeedctlError('DATABASE_UNREACHABLE', 'the listening session is being replaced');
    const timer = setTimeout(() => socketOf(session).destroy(), PING_TIMEOUT_MS);
    try {
      await session.query('select 1');
    } finally {
      clearTimeout(timer);
    }
  }
}
