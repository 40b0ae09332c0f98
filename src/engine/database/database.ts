import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import pg from 'pg';
import { FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import type { Invocation } from '../model/operation.ts';
import type { Guard } from '../resilience/guard.ts';
import { ONCE, type RetryLimits, retry } from '../resilience/retry.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { isTlsError } from '../util/tls.ts';
import { readSharding, type Sharding } from './sharding.ts';

/** Ids are 53 bits, so a bigint column is a JS number; counters stay far below that too. */
const INT8 = 20;
/** A day is no moment: it stays the text that it is. */
const DATE = 1082;
const asText: Record<number, (text: string) => unknown> = { [INT8]: Number, [DATE]: String };
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    (format !== 'binary' && asText[oid]) ||
    pg.types.getTypeParser(oid, format as 'text')) as typeof pg.types.getTypeParser,
};

/** Anything that runs a statement: the pool, or one session inside a transaction. */
export interface Queryable {
  query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<pg.QueryResult<Row>>;
}

/** What chooses its statements by where the rows are. */
export interface Store extends Queryable {
  sharding(): Promise<Sharding>;
}

export type Session = pg.PoolClient;

export interface Listener {
  /**
   * Returns after every notification that was sent before this call has been handled: a round trip on the
   * listening session, whose notifications arrive ahead of the answer. Rejects where that takes longer than 5 s.
   */
  barrier(): Promise<void>;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const PING_MS = 5_000;
/** A listening session has nothing to do: it answers at once, and is asked so often. */
const PING_TIMEOUT_MS = 5_000;
const PING_INTERVAL_MS = 10_000;
/**
 * A network that drops what is sent, without a word, would be noticed after two hours: by the server, which keeps the
 * locks of whoever was there for so long, and by whoever listens.
 */
const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelayMillis: 10_000 } as const;
const SERVER_KEEPS_ALIVE = {
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '4',
  tcp_user_timeout: '30000',
} as const;
/** Compiling a statement of thousands of keys, as the server does by default, takes longer than running it. */
const NEVER_COMPILED = { jit: 'off' } as const;
/** Shards move from node to node: what is known of them is asked for again after so long. */
export const SHARDING_AGE_MS = 30_000;
const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EACCES',
]);

/** A URL, or several separated by commas, as they may be shown: without passwords, those that were not encoded included. */
export function withoutPassword(urls: string): string {
  return urls
    .split(/,(?=\s*\w+:\/\/)/)
    .map((url) => url.replace(/(:\/\/[^:/@]*):.*@/, '$1:***@').replace(/([?&]password=)[^&]*/g, '$1***'))
    .join(',');
}

/**
 * The URL as the driver takes it. `prefer`, `require` and `verify-ca` are `verify-full` to it, with a warning on stderr
 * that its next version will take them as libpq does, and then no longer look at who answers.
 */
const forDriver = (url: string): string =>
  /[?&]uselibpqcompat=/.test(url)
    ? url
    : url.replace(/([?&]sslmode=)(prefer|require|verify-ca)(?=&|$)/, '$1verify-full');

/** Says of a driver's or the server's error what it means to the user; passes FeedctlErrors through. */
export function databaseError(error: unknown, url: string): FeedctlError {
  if (isFeedctlError(error)) return error;
  const code = (error as { code?: string }).code ?? '';
  const text = messageOf(error);
  const at = withoutPassword(url);
  if (code === 'ERR_INVALID_URL') {
    return new FeedctlError('CONFIG_INVALID', `the database URL cannot be read: ${at}`, { cause: error });
  }
  if ((error as { syscall?: string }).syscall === 'open') {
    return new FeedctlError(
      'CONFIG_INVALID',
      `the database URL ${at} names a file that cannot be read: ${text}`,
      {
        cause: error,
      },
    );
  }
  if (code === '3D000') return new FeedctlError('DATABASE_NOT_FOUND', `${text} (${at})`, { cause: error });
  if (code === '42P01' || code === '3F000') {
    return new FeedctlError(
      'SCHEMA_MISSING',
      `the database has no feedctl schema, or a part of it is gone: ${text}`,
      { cause: error },
    );
  }
  // What the driver says of passwords by itself begins with SASL.
  if (code.startsWith('28') || code === '42501' || text.startsWith('SASL'))
    return new FeedctlError('DATABASE_REFUSED', `the database ${at} refuses: ${text}`, { cause: error });
  if (isTlsError(error) || /does not support SSL|establishing an SSL connection/.test(text))
    return new FeedctlError('DATABASE_TLS_FAILED', `no TLS with the database ${at}: ${text.trim()}`, {
      cause: error,
    });
  // 57014 is an operator's cancellation too.
  if (code === '55P03' || (code === '57014' && /timeout/i.test(text)))
    return new FeedctlError('TIMED_OUT', `the database did not answer in time: ${text}`, { cause: error });
  const lost =
    UNREACHABLE.has(code) ||
    code.startsWith('08') ||
    code.startsWith('57P') ||
    code === '53300' ||
    code === '25P03';
  if (lost || /timeout|terminated|Connection ended|not queryable/i.test(text)) {
    return new FeedctlError('DATABASE_UNREACHABLE', `cannot reach the database ${at}: ${text}`, {
      cause: error,
    });
  }
  return new FeedctlError('DATABASE_ERROR', `the database refused a statement: ${text}`, { cause: error });
}

/**
 * A row that is there already, or may be: of a COPY that a node refused Citus does not tell the SQLSTATE. Whoever
 * then inserts row by row learns the true reason.
 */
export function isDuplicate(error: unknown): boolean {
  const { code, routine } = error as { code?: string; routine?: string };
  return code === '23505' || (code === 'XX000' && routine === 'ReportCopyError');
}

export interface DatabaseOptions {
  readonly maxSessions?: number;
  readonly applicationName?: string;
  /** Server settings of every session of this pool. */
  readonly sessionSettings?: Readonly<Record<string, string>>;
  /** How long to wait for a session, free or new. */
  readonly connectMs?: number;
  /** Calls that may wait for a session: the next one is refused, OVERLOADED. No bound without it. */
  readonly waiting?: number;
  /** A session is cut off that has been out for longer, TIMED_OUT. For pools that do no long work. */
  readonly deadlineMs?: number;
  /** How often to try what goes through `repeat`. Once without it: a command fails at once. */
  readonly retry?: RetryLimits;
  /** Asked before each call; released with the pool. */
  readonly guard?: Guard;
  readonly metrics?: Metrics | undefined;
  /** What its metrics call it. */
  readonly name?: string;
  /** Who works with it: noted with operations. */
  readonly invocation?: Invocation | undefined;
}

/** What a caller may want of a pool that another opens. */
export type SessionLimits = Pick<DatabaseOptions, 'maxSessions' | 'connectMs' | 'deadlineMs'>;

/** The driver leaves the socket open where it gives up by itself, as for want of a password: no process would end. */
class SessionClient extends pg.Client {
  constructor(config?: pg.ClientConfig) {
    super(config);
    (this as unknown as Wired).connection.on('error', () => socketOf(this).destroy());
  }
}

interface Wired {
  readonly connection: EventEmitter & { readonly stream: Socket };
}

const socketOf = (session: pg.ClientBase): Socket => (session as unknown as Wired).connection.stream;

/** A pool of sessions on one database. */
export class Database implements Store {
  readonly url: string;
  readonly pool: pg.Pool;
  readonly invocation: Invocation | undefined;
  readonly #listeners = new Set<Listener>();
  /** Errors after which a transaction was rolled back in order. */
  readonly #rolledBack = new WeakSet<Error>();
  readonly #options: DatabaseOptions;
  #unwatch: readonly (() => void)[] = [];
  #topology: { readonly known: Promise<Sharding>; readonly at: number } | undefined;
  #closing: Promise<void> | undefined;

  constructor(url: string, options: DatabaseOptions = {}) {
    this.url = url;
    this.invocation = options.invocation;
    this.#options = options;
    this.pool = new pg.Pool({
      Client: SessionClient,
      connectionString: forDriver(url),
      max: options.maxSessions ?? 10,
      connectionTimeoutMillis: options.connectMs ?? CONNECT_TIMEOUT_MS,
      idleTimeoutMillis: 30_000,
      ...KEEP_ALIVE,
      application_name: options.applicationName ?? 'feedctl',
      types,
      options: Object.entries({ ...SERVER_KEEPS_ALIVE, ...NEVER_COMPILED, ...options.sessionSettings })
        .map(([name, value]) => `-c ${name}=${value}`)
        .join(' '),
    });
    // An idle session that breaks is replaced at the next query; without a listener it would end the process.
    this.pool.on('error', () => {});
    this.#watch(options);
  }

  #watch({ metrics, name: pool = 'work', retry }: DatabaseOptions): void {
    if (!metrics) return;
    if (retry) metrics.count('feedctl_dependency_retries_total', 0, { dependency: 'database' });
    const inUse = () => this.pool.totalCount - this.pool.idleCount;
    this.#unwatch = [
      metrics.watch('feedctl_database_sessions', inUse, { pool, state: 'in_use' }),
      metrics.watch('feedctl_database_sessions', () => this.pool.idleCount, { pool, state: 'idle' }),
      metrics.watch('feedctl_database_waiting', () => this.pool.waitingCount, { pool }),
    ];
  }

  query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<pg.QueryResult<Row>> {
    return this.withSession((session) => session.query<Row>(text, values));
  }

  /**
   * Runs `work` on one session. Errors keep their SQLSTATE in `cause`. A session that failed is not used again.
   * `deadlineMs`: past it the session is cut off, whatever it is doing, and TIMED_OUT is thrown.
   */
  withSession<T>(work: (session: Session) => Promise<T>, options: { deadlineMs?: number } = {}): Promise<T> {
    const { guard } = this.#options;
    const run = () => this.#onSession(work, options.deadlineMs ?? this.#options.deadlineMs);
    return guard ? guard.run(run) : run();
  }

  async #onSession<T>(work: (session: Session) => Promise<T>, deadlineMs?: number): Promise<T> {
    const { waiting } = this.#options;
    // The pool is the bulkhead: it bounds the sessions, and here its queue is bounded.
    // Who gets an idle session is in the pool's queue for a moment too.
    if (waiting !== undefined && this.pool.waitingCount - this.pool.idleCount >= waiting)
      throw new FeedctlError('OVERLOADED', `${waiting} calls wait for a database session already`);
    let session: Session;
    try {
      session = await this.pool.connect();
    } catch (error) {
      // The pool's word for that none of its sessions became free.
      if (this.pool.totalCount >= this.pool.options.max && /^timeout exceeded/.test(messageOf(error)))
        throw new FeedctlError('OVERLOADED', 'no database session became free in time', { cause: error });
      throw this.#explain(error);
    }
    let failed: Error | undefined;
    const onError = (error: Error) => {
      failed = error;
    };
    session.on('error', onError);
    let late = false;
    // Nothing less than its end frees a session whose server, or network, says nothing any more.
    const deadline =
      deadlineMs &&
      setTimeout(() => {
        late = true;
        socketOf(session).destroy();
      }, deadlineMs);
    try {
      return await work(session);
    } catch (error) {
      failed = error as Error;
      if (late)
        throw new FeedctlError('TIMED_OUT', `the database did not answer within ${deadlineMs} ms`, {
          cause: error,
        });
      throw this.#explain(error);
    } finally {
      if (deadline) clearTimeout(deadline);
      session.off('error', onError);
      // A session whose transaction was rolled back is as good as new; another that failed is not used again.
      session.release(
        late || (failed !== undefined && !isFeedctlError(failed) && !this.#rolledBack.has(failed)),
      );
    }
  }

  /** A round trip past the guard: whether the server answers. */
  async ping(): Promise<void> {
    await this.#onSession((session) => session.query('select 1'), PING_MS);
  }

  /**
   * Runs work again where it failed in a way that passes, as often as this database's options say: only for what may
   * be done twice. `again`: the try before may have been done all the same, and only its answer lost.
   */
  retry<T>(work: (again: boolean) => Promise<T>): Promise<T> {
    const { retry: limits = ONCE, metrics } = this.#options;
    return retry(work, { ...limits, dependency: 'database', metrics });
  }

  /** One transaction; rolled back when `work` throws, or at the deadline. */
  async transaction<T>(
    work: (session: Session) => Promise<T>,
    options: { deadlineMs?: number } = {},
  ): Promise<T> {
    return this.withSession(async (session) => {
      await session.query('begin');
      try {
        const result = await work(session);
        await session.query('commit');
        return result;
      } catch (error) {
        const rolledBack = await session.query('rollback').then(
          () => true,
          () => false,
        );
        if (rolledBack && error instanceof Error) this.#rolledBack.add(error);
        throw error;
      }
    }, options);
  }

  /** What `work` would do: the same statements, rolled back. */
  async rehearse<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return this.withSession(async (session) => {
      await session.query('begin');
      try {
        return await work(session);
      } finally {
        await session.query('rollback').catch(() => {});
      }
    });
  }

  /**
   * Listens on channels with a session of its own, which is replaced when it breaks or says nothing any more. What is notified between
   * `onLost` and the next `onListening` is not heard.
   */
  async listen(
    channels: string[],
    handlers: {
      onNotify(channel: string, payload: string): void;
      onListening?(session: pg.Client): void | Promise<void>;
      onLost?(): void;
    },
  ): Promise<Listener> {
    let client: pg.Client | undefined;
    let connecting: pg.Client | undefined;
    let closed = false;
    let retry: NodeJS.Timeout | undefined;
    const connect = async (): Promise<void> => {
      const next = new pg.Client({
        connectionString: forDriver(this.url),
        connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
        application_name: 'feedctl listener',
        ...KEEP_ALIVE,
        types,
      });
      connecting = next;
      let alive = true;
      let told = false;
      // Before it listens, whoever waits for `connect` learns of the failure, and decides whether to try again.
      const lost = () => {
        alive = false;
        if (client !== next) return;
        client = undefined;
        handlers.onLost?.();
        if (!closed) retry = setTimeout(reconnect, 200 + Math.random() * 300);
      };
      next.on('error', lost);
      next.on('end', lost);
      next.on('notification', (message) => handlers.onNotify(message.channel, message.payload ?? ''));
      const late = setTimeout(() => socketOf(next).destroy(), CONNECT_TIMEOUT_MS);
      try {
        await next.connect();
        await next.query(channels.map((channel) => `listen ${pg.escapeIdentifier(channel)}`).join('; '));
        told = true;
        await handlers.onListening?.(next);
        if (!alive || closed) throw new Error('Connection terminated');
        client = next;
      } catch (error) {
        if (told) handlers.onLost?.();
        await next.end().catch(() => {});
        throw this.#explain(error);
      } finally {
        clearTimeout(late);
        connecting = undefined;
      }
    };
    const reconnect = () => {
      connect().catch(() => {
        if (!closed) retry = setTimeout(reconnect, 500 + Math.random() * 500);
      });
    };
    await connect();
    const roundTrip = async (): Promise<void> => {
      const session = client;
      if (!session) throw new FeedctlError('DATABASE_UNREACHABLE', 'the listening session is being replaced');
      const late = setTimeout(() => socketOf(session).destroy(), PING_TIMEOUT_MS);
      try {
        await session.query('select 1');
      } finally {
        clearTimeout(late);
      }
    };
    let current: Promise<void> = Promise.resolve();
    let waiting: Promise<void> | undefined;
    const asking = setInterval(() => void listener.barrier().catch(() => {}), PING_INTERVAL_MS);
    const listener: Listener = {
      barrier: () => {
        // A session takes one statement at a time. Whoever comes while one is under way shares the one after it.
        waiting ??= current
          .catch(() => {})
          .then(() => {
            waiting = undefined;
            current = roundTrip();
            return current;
          });
        return waiting;
      },
      close: async () => {
        closed = true;
        clearTimeout(retry);
        clearInterval(asking);
        this.#listeners.delete(listener);
        await Promise.all([client?.end(), connecting?.end()]).catch(() => {});
      },
    };
    this.#listeners.add(listener);
    return listener;
  }

  /** Where rows are, at most 30 s old. A database that is not distributed stays so while this process runs. */
  async sharding(): Promise<Sharding> {
    const { known, at } = this.#topology ?? {};
    const sharding = await known?.catch(() => undefined);
    if (sharding && (!sharding.distributed || Date.now() - at! < SHARDING_AGE_MS)) return sharding;
    if (this.#topology?.known === known) this.#topology = { known: readSharding(this), at: Date.now() };
    return this.#topology!.known;
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      for (const listener of [...this.#listeners]) await listener.close();
      for (const unwatch of this.#unwatch) unwatch();
      this.#options.guard?.close();
      await this.pool.end();
    })();
    return this.#closing;
  }

  #explain(error: unknown): Error {
    // Duplicates and what the caller may retry are decided by SQLSTATE: those pass as they are.
    if (isFeedctlError(error) || isDuplicate(error) || (error as Error).name === 'AbortError')
      return error as Error;
    return databaseError(error, this.url);
  }
}
