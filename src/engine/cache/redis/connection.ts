import { Redis } from 'ioredis';
import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { poll } from '../../util/poll.ts';
import type { Endpoint } from './endpoint.ts';
import { explain, isChanged, isRefusal } from './faults.ts';
import { followUrl } from './followUrl.ts';
import { type ScriptName, scriptOf } from './scripts.ts';

/** Maximum wait for a reply. A page from a loaded database takes about as long. */
const COMMAND_TIMEOUT_MS = 500;
const CONNECT_TIMEOUT_MS = 2_000;
const CONNECT_POLL_MS = 5;
const MAX_RETRY_MS = 2_000;
/** After this many consecutive timeouts the connection is replaced. */
const TIMEOUTS_TO_TRIP = 2;
const KEYS_A_SCAN = 200;
const MOVES_FORGOTTEN_MS = 60_000;
/** Labels of the metrics. */
const CACHE = { dependency: 'cache' } as const;
const UNAVAILABLE = 'the cache is unavailable: feeds are read from the database';
const OLDEST_VERSION = [6, 2] as const;
/** Leaves no key behind. */
const HELLO = `redis.call('SET', KEYS[1], '1', 'EX', 10) redis.call('DEL', KEYS[1]) return 1`;
export interface ServerInfo {
  /**
   * Changes with every restart, and differs on every replica. It is part of all keys: values of an
   * earlier server are never read.
   */
  readonly runId: string;
  /** Redis, or Valkey. */
  readonly name: string;
  readonly version: string;
  /** Its memory is limited and its policy evicts no value: when full it refuses writes. */
  readonly refusesWhenFull: boolean;
  /** Its memory has no limit: it grows with the feeds that are read within an hour. */
  readonly unlimited: boolean;
}

/**
 * A connection that reconnects for ever. It is its own circuit breaker: after two consecutive
 * timeouts, when the server refuses a write, or when the connection ends, calls fail immediately until
 * a server has answered INFO and accepted a write.
 * The command timeout bounds the number of calls in flight. No command is retried: the database
 * answers instead.
 */
export class RedisConnection {
  readonly #redis: Redis;
  readonly #log: Log;
  readonly #endpoint: Endpoint;
  #server: ServerInfo | undefined;
  #timeouts = 0;
  #closed = false;
  /** Consecutive connections to servers that are not usable. */
  #refusals = 0;
  /** Connections that were left for another server, without a pause of a minute. */
  #moves = 0;
  #movedAt = 0;
  /** False during the first attempt, whose failure the caller learns. */
  #isOpen = false;
  /** Reasons that were logged since the cache was available. */
  readonly #logged = new Set<string>();
  #fault: FeedctlError | undefined;
  readonly #metrics: Metrics | undefined;
  readonly #unwatch: (() => void) | undefined;
  onReady: () => void = () => {};

  private constructor(endpoint: Endpoint, log: Log, metrics: Metrics | undefined) {
    this.#endpoint = endpoint;
    this.#log = log;
    this.#metrics = metrics;
    for (const name of ['timeouts', 'circuit_openings'] as const)
      metrics?.count(`feedctl_dependency_${name}_total`, 0, CACHE);
    this.#unwatch = metrics?.watch('feedctl_dependency_circuit_state', () => (this.#server ? 0 : 2), CACHE);
    this.#redis = new Redis({
      ...endpoint.options,
      lazyConnect: true,
      connectTimeout: CONNECT_TIMEOUT_MS,
      commandTimeout: COMMAND_TIMEOUT_MS,
      // A command is meant for one server: none may wait for the next connection.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      enableReadyCheck: false,
      disableClientInfo: true,
      connectionName: 'feedctl',
      retryStrategy: (times) => {
        const failures = Math.max(times, this.#refusals, this.#moves);
        return Math.min(MAX_RETRY_MS, 50 * 2 ** Math.min(failures, 8)) * (0.5 + Math.random() / 2);
      },
    });
    if (endpoint.source) followUrl(this.#redis, endpoint.source.url, endpoint.source.options);
    this.#redis.on('error', (error) => {
      this.#fault = this.#explain(error);
    });
    this.#redis.on('close', () => this.#lost());
    this.#redis.on('ready', () => void this.#greet());
  }

  /**
   * Connects. A server that is down is no error: calls fail immediately until a reconnect succeeds.
   * Throws CACHE_REFUSED, CACHE_TLS_FAILED, CACHE_UNSUITABLE or CONFIG_INVALID, which waiting does
   * not fix.
   */
  static async open(endpoint: Endpoint, log: Log, metrics?: Metrics): Promise<RedisConnection> {
    const connection = new RedisConnection(endpoint, log, metrics);
    connection.#redis.connect().catch(() => {});
    const connected = () => connection.#server !== undefined || connection.#fault !== undefined;
    await poll(connected, { everyMs: CONNECT_POLL_MS, timeoutMs: CONNECT_TIMEOUT_MS });
    const fault = connection.#fault;
    if (fault && fault.code !== 'CACHE_UNREACHABLE' && !isChanged(fault)) {
      await connection.close();
      throw fault;
    }
    if (!connection.#server) connection.#warn(connection.failure());
    connection.#isOpen = true;
    return connection;
  }

  /** The server that answers; undefined while none does. */
  get server(): ServerInfo | undefined {
    return this.#server;
  }

  /** The URL without its passwords. */
  get shownUrl(): string {
    return this.#endpoint.shown;
  }

  /** Returns why no server answers. */
  failure(): FeedctlError {
    return this.#fault ?? new FeedctlError('CACHE_UNREACHABLE', `the cache ${this.shownUrl} does not answer`);
  }

  /**
   * Runs a script on the server with that run id. Throws StaleState, or CACHE_UNREACHABLE: also
   * where another server answers now, which may have loaded an old snapshot.
   */
  async script(
    name: ScriptName,
    runId: string,
    key: string,
    ...values: (string | Buffer | number)[]
  ): Promise<unknown> {
    const { text, sha } = scriptOf(name);
    try {
      return await this.#run(runId, () => this.#redis.callBuffer('EVALSHA', sha, 1, key, ...values));
    } catch (error) {
      if (!messageOf((error as Error).cause).startsWith('NOSCRIPT')) throw error;
      return this.#run(runId, () => this.#redis.callBuffer('EVAL', text, 1, key, ...values));
    }
  }

  async getMany(runId: string, keys: readonly Buffer[]): Promise<(Buffer | null)[]> {
    return keys.length === 0 ? [] : this.#run(runId, () => this.#redis.mgetBuffer(...keys));
  }

  /** Yields keys that match, some hundreds at a time. The same key may be yielded twice. */
  async *keys(runId: string, match: string): AsyncGenerator<Buffer[]> {
    let cursor = '0';
    do {
      const [next, keys] = await this.#run(runId, () =>
        this.#redis.scanBuffer(cursor, 'MATCH', match, 'COUNT', KEYS_A_SCAN),
      );
      cursor = String(next);
      if (keys.length > 0) yield keys;
    } while (cursor !== '0');
  }

  async remove(runId: string, keys: readonly Buffer[]): Promise<void> {
    await this.#run(runId, () => this.#redis.unlink(...keys));
  }

  /**
   * Leaves a server because the other processes use another one. The next connection leads there, if the URL
   * does. Slows down where it does not.
   */
  move(runId: string): void {
    if (this.#server?.runId !== runId) return;
    const now = performance.now();
    this.#moves = now - this.#movedAt < MOVES_FORGOTTEN_MS ? this.#moves + 1 : 1;
    this.#movedAt = now;
    this.#replace(
      new FeedctlError('CACHE_UNREACHABLE', `another process uses another server than ${this.shownUrl}`),
    );
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#server = undefined;
    this.#unwatch?.();
    this.#redis.disconnect();
  }

  async #run<T>(runId: string, work: () => Promise<T>): Promise<T> {
    if (this.#server?.runId !== runId) throw this.failure();
    try {
      const result = await work();
      this.#timeouts = 0;
      return result;
    } catch (error) {
      // Some versions of Redis prefix ERR.
      if (/\bSTALE$/.test(messageOf(error))) throw new StaleState();
      if (/timed out/i.test(messageOf(error))) this.#timedOut();
      const explained = this.#explain(error);
      // The next connection may lead to another server, and checks the role of this one.
      if (isRefusal(error) && this.#server?.runId === runId) this.#replace(explained);
      throw explained;
    }
  }

  #replace(fault?: FeedctlError): void {
    this.#lost(fault);
    this.#redis.disconnect(true);
  }

  #timedOut(): void {
    this.#metrics?.count('feedctl_dependency_timeouts_total', 1, CACHE);
    this.#timeouts += 1;
    if (this.#timeouts >= TIMEOUTS_TO_TRIP && this.#server) this.#replace();
  }

  #lost(fault?: FeedctlError): void {
    if (fault) this.#fault = fault;
    if (this.#server && !this.#closed) {
      this.#warn(fault);
      this.#metrics?.count('feedctl_dependency_circuit_openings_total', 1, CACHE);
    }
    this.#server = undefined;
    this.#timeouts = 0;
  }

  /** Logs each reason once until the cache is available again. */
  #warn(fault?: FeedctlError): void {
    const reason = fault?.message ?? '';
    if (this.#logged.has(reason)) return;
    this.#logged.add(reason);
    this.#log.warn(fault ? { code: fault.code, reason } : {}, UNAVAILABLE);
  }

  /** Identifies the server of a new connection and writes to it. No call is sent before that. */
  async #greet(): Promise<void> {
    try {
      const text = await this.#redis.info();
      const info = new Map(
        text.split('\r\n').map((line) => line.split(/:(.*)/s).slice(0, 2) as [string, string]),
      );
      const server = checkServer(info, this.#endpoint.kind);
      await this.#write();
      if (this.#closed) return;
      this.#server = server;
      this.#refusals = 0;
      this.#logged.clear();
      if (this.#fault) this.#log.info({ version: this.#server.version }, 'the cache is available again');
      this.#fault = undefined;
      this.onReady();
    } catch (error) {
      this.#fault = this.#explain(error);
      this.#refusals += 1;
      if (this.#isOpen && !this.#closed && this.#fault.code !== 'CACHE_UNREACHABLE') this.#warn(this.#fault);
      this.#redis.disconnect(!this.#closed);
    }
  }

  /** Throws where the server refuses writes, except where it is only full. */
  async #write(): Promise<void> {
    const { helloKey } = this.#endpoint;
    if (helloKey === undefined) return;
    try {
      await this.#redis.eval(HELLO, 1, helloKey);
    } catch (error) {
      if (isRefusal(error) || !/\b(OOM|ERR|BUSY)\b/.test(messageOf(error))) throw error;
    }
  }

  #explain(error: unknown): FeedctlError {
    return explain(error, `the cache ${this.#endpoint.shown}`);
  }
}

/** Returns whether an error is of the cache, and not of the store behind it. */
export const isCacheError = (error: unknown): boolean =>
  error instanceof StaleState || (isFeedctlError(error) && error.code.startsWith('CACHE_'));

/** The state of the cache has changed since the caller read it. */
export class StaleState extends Error {}

function checkServer(info: Map<string, string>, kind: Endpoint['kind']): ServerInfo {
  const unsuitable = (why: string, ...suggestions: string[]) =>
    new FeedctlError('CACHE_UNSUITABLE', `the cache ${why}`, {
      ...(suggestions.length > 0 && { suggestions }),
    });
  const version = info.get('redis_version');
  const runId = info.get('run_id');
  if (!version || !runId) throw unsuitable('reports neither a version nor a run id: it is no Redis');
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < OLDEST_VERSION[0] || (major === OLDEST_VERSION[0] && minor < OLDEST_VERSION[1]))
    throw unsuitable(`is Redis ${version}; ${OLDEST_VERSION.join('.')} or newer is required`);
  // Valkey 9.1 reports `server_mode`.
  const mode = info.get('server_mode') ?? info.get('redis_mode');
  if (mode === 'sentinel')
    throw unsuitable(
      'is a sentinel, which holds no values',
      'Begin the URL with redis+sentinel:// and end it with /NAME, the name of the group of servers.',
    );
  if (kind !== 'cluster' && (mode === 'cluster' || info.get('cluster_enabled') === '1'))
    throw unsuitable('is a node of a Redis Cluster', 'Begin the URL with redis+cluster://.');
  if (info.get('role') === 'slave') {
    if (kind === 'server') throw unsuitable('is a replica, which refuses writes');
    throw new FeedctlError('CACHE_UNREACHABLE', 'the server that was named as the master is a replica still');
  }
  // A server that loads its snapshot answers soon.
  if (info.get('loading') === '1')
    throw new FeedctlError('CACHE_UNREACHABLE', 'the cache is loading its data');
  const unlimited = info.get('maxmemory') === '0';
  const refusesWhenFull = !unlimited && info.get('maxmemory_policy') === 'noeviction';
  const valkey = info.get('valkey_version');
  const served = valkey ? { name: 'Valkey', version: valkey } : { name: 'Redis', version };
  return { runId, ...served, refusesWhenFull, unlimited };
}
