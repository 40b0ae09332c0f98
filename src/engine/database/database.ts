import pg from 'pg';
import { FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import type { Invocation } from '../model/operation.ts';
import type { Guard } from '../resilience/guard.ts';
import { ONCE, type RetryLimits, retry } from '../resilience/retry.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { ServerUrl } from '../util/serverUrl.ts';
import { explainError, isReadOnly } from './errors.ts';
import { type Listener, type ListenHandlers, ListeningSession } from './listener.ts';
import {
  CONNECT_TIMEOUT_MS,
  columnTypes,
  KEEP_ALIVE,
  SessionClient,
  type SessionConfig,
  sessionOptions,
  socketOf,
} from './session.ts';
import { readSharding, type Sharding, type Store } from './sharding.ts';
import type { Session } from './types.ts';
import { checkWritable } from './usable.ts';

export type { Listener } from './listener.ts';
export type { Store } from './sharding.ts';
export type { Queryable, Session } from './types.ts';

const PING_TIMEOUT_MS = 5_000;
/** Maximum age of the known placement of shards. Shards move between nodes. */
export const SHARDING_AGE_MS = 30_000;

export interface DatabaseOptions {
  readonly maxSessions?: number;
  readonly applicationName?: string;
  /** Server settings of every session of this pool. */
  readonly sessionSettings?: Readonly<Record<string, string>>;
  /** Maximum wait for a session, free or new. */
  readonly connectMs?: number;
  /**
   * Maximum number of calls that wait for a session. The next call fails, OVERLOADED. Default: no
   * limit.
   */
  readonly waiting?: number;
  /** Maximum time that a call holds a session, then TIMED_OUT. Not for pools with long work. */
  readonly deadlineMs?: number;
  /** Keeps the plans of named statements in its sessions. A pooler that shares sessions would lose them. */
  readonly keepPlans?: boolean;
  /** Refuses new sessions that cannot write, DATABASE_READ_ONLY: a standby may show old data. */
  readonly writable?: boolean;
  /** Number of attempts of `retry`. Default: one, because commands should fail immediately. */
  readonly retry?: RetryLimits;
  /** Decides before each call whether it may run. Closed with the pool. */
  readonly guard?: Guard;
  readonly metrics?: Metrics | undefined;
  /** Value of the label `pool` of its metrics. */
  readonly name?: string;
  /** The user and the command that work with it. Operations record them. */
  readonly invocation?: Invocation | undefined;
}

/** Options that a caller may set on a pool that other code opens. */
export type SessionLimits = Pick<DatabaseOptions, 'maxSessions' | 'connectMs' | 'deadlineMs'>;

/** A pool of sessions on one database. */
export class Database implements Store {
  /** Where its sessions are opened, and those of others with the same database. */
  readonly server: ServerUrl;
  readonly pool: pg.Pool;
  readonly invocation: Invocation | undefined;
  readonly #listeners = new Set<Listener>();
  /** Errors whose transaction was rolled back, so that the session can be reused. */
  readonly #rolledBack = new WeakSet<Error>();
  readonly #options: DatabaseOptions;
  /** Sessions that were found to be usable. */
  #confirmed = new WeakSet<Session>();
  #confirm: ((session: Session) => Promise<void>) | undefined;
  #unwatch: readonly (() => void)[] = [];
  #sharding: { readonly known: Promise<Sharding>; readonly at: number } | undefined;
  #closing: Promise<void> | undefined;

  constructor(url: string | ServerUrl, options: DatabaseOptions = {}) {
    this.server = ServerUrl.of(url);
    this.invocation = options.invocation;
    this.#options = options;
    if (options.writable) this.#confirm = (session) => checkWritable(session, this.url);
    const config: pg.PoolConfig & SessionConfig = {
      Client: SessionClient as unknown as new () => SessionClient,
      server: this.server,
      max: options.maxSessions ?? 10,
      connectionTimeoutMillis: options.connectMs ?? CONNECT_TIMEOUT_MS,
      idleTimeoutMillis: 30_000,
      ...KEEP_ALIVE,
      application_name: options.applicationName ?? 'feedctl',
      types: columnTypes,
      options: sessionOptions(options.sessionSettings),
    };
    this.pool = new pg.Pool(config);
    // The next query replaces an idle session that broke. Without a listener its error would end
    // the process.
    this.pool.on('error', () => {});
    this.#watch(options);
  }

  get url(): string {
    return this.server.current;
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

  async query<Row extends pg.QueryResultRow>(
    text: string,
    values?: unknown[],
    name?: string,
  ): Promise<pg.QueryResult<Row>> {
    const kept = name && this.#options.keepPlans && !(await this.sharding()).distributed;
    return this.withSession((session) => session.query<Row>(kept ? { name, text } : text, values));
  }

  /**
   * Runs `work` on one session. Errors keep their SQLSTATE in `cause`. A session that failed is not
   * used again. After `deadlineMs` the connection is closed, and the call throws TIMED_OUT.
   */
  withSession<T>(work: (session: Session) => Promise<T>, options: { deadlineMs?: number } = {}): Promise<T> {
    const { guard } = this.#options;
    const run = () => this.#onSession(work, options.deadlineMs ?? this.#options.deadlineMs);
    return guard ? guard.run(run) : run();
  }

  async #onSession<T>(work: (session: Session) => Promise<T>, deadlineMs?: number): Promise<T> {
    const { waiting } = this.#options;
    // The pool is the bulkhead: it limits the sessions, and this line limits its queue. A call that
    // gets an idle session is in that queue for a moment too, hence the subtraction.
    if (waiting !== undefined && this.pool.waitingCount - this.pool.idleCount >= waiting)
      throw new FeedctlError('OVERLOADED', `${waiting} calls wait for a database session already`);
    let session: Session;
    try {
      session = await this.pool.connect();
    } catch (error) {
      // The pool reports in this way that none of its sessions became free.
      if (this.pool.totalCount >= this.pool.options.max && /^timeout exceeded/.test(messageOf(error)))
        throw new FeedctlError('OVERLOADED', 'no database session became free in time', { cause: error });
      throw explainError(error, this.url);
    }
    let failed: Error | undefined;
    const onError = (error: Error) => {
      failed = error;
    };
    session.on('error', onError);
    let timedOut = false;
    // Closing the socket is the only way to free a session whose server or network does not answer.
    const timer =
      deadlineMs &&
      setTimeout(() => {
        timedOut = true;
        socketOf(session).destroy();
      }, deadlineMs);
    try {
      if (this.#confirm && !this.#confirmed.has(session)) {
        await this.#confirm(session);
        this.#confirmed.add(session);
      }
      return await work(session);
    } catch (error) {
      failed = error as Error;
      if (timedOut)
        throw new FeedctlError('TIMED_OUT', `the database did not answer within ${deadlineMs} ms`, {
          cause: error,
        });
      throw explainError(error, this.url);
    } finally {
      if (timer) clearTimeout(timer);
      session.off('error', onError);
      session.release(timedOut || this.#isBroken(failed));
    }
  }

  /**
   * A session whose transaction was rolled back can be reused. Other failed sessions are discarded, and
   * so are those that cannot write: the next one may reach the new primary.
   */
  #isBroken(failed: Error | undefined): boolean {
    if (failed === undefined) return false;
    return isReadOnly(failed) || (!isFeedctlError(failed) && !this.#rolledBack.has(failed));
  }

  /**
   * Runs `confirm` on each session before its first use from now on, in place of the check of `writable`.
   * A session that it refuses is tried again.
   */
  confirmSessions(confirm: (session: Session) => Promise<void>): void {
    this.#confirm = confirm;
  }

  /** Confirms every session again before its next use. */
  confirmAgain(): void {
    this.#confirmed = new WeakSet();
  }

  /** Makes a round trip without the guard. Rejects if the server does not answer. */
  async ping(): Promise<void> {
    await this.#onSession((session) => session.query('select 1'), PING_TIMEOUT_MS);
  }

  /**
   * Retries work after transient failures, as often as this database's options allow. The work must
   * be idempotent. `isRetry`: an earlier attempt may have succeeded although its answer was lost.
   */
  retry<T>(work: (isRetry: boolean) => Promise<T>): Promise<T> {
    const { retry: limits = ONCE, metrics } = this.#options;
    return retry(work, { ...limits, dependency: 'database', metrics });
  }

  /** Runs one transaction. Rolls it back when `work` throws, or at the deadline. */
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

  /** Runs the statements of `work` and rolls them back. For dry runs. */
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

  /** Listens on channels with a separate session. Closing the database closes it too. */
  async listen(channels: string[], handlers: ListenHandlers): Promise<Listener> {
    const session = await ListeningSession.open(this.server, channels, handlers);
    const listener: Listener = {
      barrier: () => session.barrier(),
      reconnect: () => session.reconnect(),
      close: () => {
        this.#listeners.delete(listener);
        return session.close();
      },
    };
    this.#listeners.add(listener);
    return listener;
  }

  /**
   * Returns the placement of rows, at most 30 s old. A plain database is asked only once per
   * process.
   */
  async sharding(): Promise<Sharding> {
    const { known, at } = this.#sharding ?? {};
    const sharding = await known?.catch(() => undefined);
    if (sharding && (!sharding.distributed || performance.now() - at! < SHARDING_AGE_MS)) return sharding;
    if (this.#sharding?.known === known)
      this.#sharding = { known: readSharding(this), at: performance.now() };
    return this.#sharding!.known;
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
}
