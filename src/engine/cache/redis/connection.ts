import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, type RedisOptions } from 'ioredis';
import { withoutPassword } from '../../database/url.ts';
import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { isTlsError, tlsOptions } from '../../util/tls.ts';
import { SCRIPTS, type ScriptName } from './scripts.ts';

/** A page waits no longer for Redis than it would take from the database on a bad day. */
const COMMAND_TIMEOUT_MS = 500;
const CONNECT_TIMEOUT_MS = 2_000;
const MAX_RETRY_MS = 2_000;
/** So many timeouts in a row, and the connection is replaced: it is used again when the server has answered on it. */
const TIMEOUTS_TO_TRIP = 2;
const KEYS_A_SCAN = 200;
/** In metrics. */
const CACHE = { dependency: 'cache' } as const;
const OLDEST_VERSION = [6, 2] as const;

const SHA = Object.fromEntries(
  Object.entries(SCRIPTS).map(([name, text]) => [name, createHash('sha1').update(text).digest('hex')]),
) as Record<ScriptName, string>;

export interface ServerInfo {
  /** Another one after every restart, and on every replica: what an older server held is never read as its own. */
  readonly runId: string;
  readonly version: string;
  /** Its memory is limited and nothing gives way: full, it takes no more. */
  readonly refusesWhenFull: boolean;
  /** Its memory has no limit: it holds what was read within an hour, however much that is. */
  readonly unlimited: boolean;
}

/**
 * One connection that is made again for ever, and that is either known to work or fails at once: its own circuit
 * breaker, open from the second timeout in a row, or the end of the connection, until the server has said who it is. The
 * deadline of commands bounds how many are under way; nothing is tried twice, as the database answers instead.
 */
export class RedisConnection {
  readonly #redis: Redis;
  readonly #log: Log;
  readonly #url: string;
  #server: ServerInfo | undefined;
  #timeouts = 0;
  #closed = false;
  #fault: FeedctlError | undefined;
  readonly #metrics: Metrics | undefined;
  readonly #unwatch: (() => void) | undefined;
  onReady: () => void = () => {};

  private constructor(url: string, log: Log, metrics: Metrics | undefined) {
    this.#url = url;
    this.#log = log;
    this.#metrics = metrics;
    for (const name of ['timeouts', 'circuit_openings'] as const)
      metrics?.count(`feedctl_dependency_${name}_total`, 0, CACHE);
    this.#unwatch = metrics?.watch('feedctl_dependency_circuit_state', () => (this.#server ? 0 : 2), CACHE);
    this.#redis = new Redis({
      ...redisServer(url),
      lazyConnect: true,
      connectTimeout: CONNECT_TIMEOUT_MS,
      commandTimeout: COMMAND_TIMEOUT_MS,
      // A command belongs to the server it was made for: none waits for the next one.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      enableReadyCheck: false,
      disableClientInfo: true,
      connectionName: 'feedctl',
      retryStrategy: (times) =>
        Math.min(MAX_RETRY_MS, 50 * 2 ** Math.min(times, 8)) * (0.5 + Math.random() / 2),
    });
    this.#redis.on('error', (error) => {
      this.#fault = this.#explain(error);
    });
    this.#redis.on('close', () => this.#lost());
    this.#redis.on('ready', () => void this.#greet());
  }

  /**
   * Connects. A server that is away is no error: it is tried again for ever, and until then every call fails at
   * once. Throws CACHE_REFUSED, CACHE_TLS_FAILED or CACHE_UNSUITABLE for what no waiting mends, and CONFIG_INVALID.
   */
  static async open(url: string, log: Log, metrics?: Metrics): Promise<RedisConnection> {
    const connection = new RedisConnection(url, log, metrics);
    connection.#redis.connect().catch(() => {});
    const until = Date.now() + CONNECT_TIMEOUT_MS;
    while (!connection.#server && !connection.#fault && Date.now() < until) await sleep(5);
    const fault = connection.#fault;
    if (fault && fault.code !== 'CACHE_UNREACHABLE') {
      await connection.close();
      throw fault;
    }
    if (!connection.#server)
      log.warn({ reason: connection.away().message }, 'the cache is away: going on without it');
    return connection;
  }

  /** The server that answers now. */
  get server(): ServerInfo | undefined {
    return this.#server;
  }

  /** Without its password. */
  get shownUrl(): string {
    return withoutPassword(this.#url);
  }

  /** Why there is no server. */
  away(): FeedctlError {
    return (
      this.#fault ??
      new FeedctlError('CACHE_UNREACHABLE', `the cache ${withoutPassword(this.#url)} does not answer`)
    );
  }

  /**
   * Runs a script on the server of that run. Throws StaleState, or CACHE_UNREACHABLE: at once where another server
   * answers by now, which may have been started from what the first one saved.
   */
  async script(
    name: ScriptName,
    runId: string,
    key: string,
    ...values: (string | Buffer | number)[]
  ): Promise<unknown> {
    try {
      return await this.#run(runId, () => this.#redis.callBuffer('EVALSHA', SHA[name], 1, key, ...values));
    } catch (error) {
      if (!messageOf((error as Error).cause).startsWith('NOSCRIPT')) throw error;
      return this.#run(runId, () => this.#redis.callBuffer('EVAL', SCRIPTS[name], 1, key, ...values));
    }
  }

  async getMany(runId: string, keys: readonly Buffer[]): Promise<(Buffer | null)[]> {
    return keys.length === 0 ? [] : this.#run(runId, () => this.#redis.mgetBuffer(...keys));
  }

  /** Keys that match, some hundreds at a time; one may come twice. */
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

  async close(): Promise<void> {
    this.#closed = true;
    this.#server = undefined;
    this.#unwatch?.();
    this.#redis.disconnect();
  }

  async #run<T>(runId: string, work: () => Promise<T>): Promise<T> {
    if (this.#server?.runId !== runId) throw this.away();
    try {
      const result = await work();
      this.#timeouts = 0;
      return result;
    } catch (error) {
      // Some versions put ERR ahead of it.
      if (/\bSTALE$/.test(messageOf(error))) throw new StaleState();
      if (/timed out/i.test(messageOf(error))) this.#timedOut();
      throw this.#explain(error);
    }
  }

  #timedOut(): void {
    this.#metrics?.count('feedctl_dependency_timeouts_total', 1, CACHE);
    this.#timeouts += 1;
    if (this.#timeouts < TIMEOUTS_TO_TRIP || !this.#server) return;
    this.#lost();
    this.#redis.disconnect(true);
  }

  #lost(): void {
    if (this.#server && !this.#closed) {
      this.#log.warn({}, 'the cache is away: going on without it');
      this.#metrics?.count('feedctl_dependency_circuit_openings_total', 1, CACHE);
    }
    this.#server = undefined;
    this.#timeouts = 0;
  }

  /** Nothing is asked of a connection before it is known who answers on it. */
  async #greet(): Promise<void> {
    try {
      const text = await this.#redis.info();
      const info = new Map(
        text.split('\r\n').map((line) => line.split(/:(.*)/s).slice(0, 2) as [string, string]),
      );
      this.#server = checkServer(info);
      if (this.#fault) this.#log.info({ version: this.#server.version }, 'the cache is back');
      this.#fault = undefined;
      this.onReady();
    } catch (error) {
      this.#fault = this.#explain(error);
      this.#redis.disconnect(!this.#closed);
    }
  }

  #explain(error: unknown): FeedctlError {
    if (isFeedctlError(error)) return error;
    const text = messageOf(error);
    const at = withoutPassword(this.#url);
    if (text.startsWith('NOAUTH'))
      return new FeedctlError('CACHE_REFUSED', `the cache ${at} asks for a password`, { cause: error });
    if (isTlsError(error))
      return new FeedctlError('CACHE_TLS_FAILED', `no TLS with the cache ${at}: ${text.trim()}`, {
        cause: error,
      });
    if (/^(WRONGPASS|NOPERM|DENIED)|invalid password|without any password configured/i.test(text))
      return new FeedctlError('CACHE_REFUSED', `the cache ${at} refused this user: ${text}`, {
        cause: error,
      });
    if (/protocol error|Got .* as reply type/i.test(text))
      return new FeedctlError('CACHE_UNSUITABLE', `what answers at ${at} is no Redis: ${text}`, {
        cause: error,
      });
    return new FeedctlError('CACHE_UNREACHABLE', `the cache ${at} fails: ${text}`, { cause: error });
  }
}

/**
 * Reads `redis(s)://user:password@host:port/number?cacertfile=&certfile=&keyfile=`, and nothing else of the query: the
 * driver would take any option of its own from there. Throws CONFIG_INVALID.
 */
export function redisServer(text: string): RedisOptions {
  const bad = (why: string, cause?: unknown) =>
    new FeedctlError('CONFIG_INVALID', `the cache URL ${withoutPassword(text)} ${why}`, { cause });
  try {
    const url = new URL(text);
    const db = url.pathname.slice(1);
    if (!/^\d*$/.test(db)) throw bad(`names a database that is no number: ${db}`);
    return {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: Number(url.port) || 6379,
      db: Number(db),
      ...(url.username && { username: decodeURIComponent(url.username) }),
      ...(url.password && { password: decodeURIComponent(url.password) }),
      ...(url.protocol === 'rediss:' && { tls: tlsOptions(url.searchParams, bad) }),
    };
  } catch (error) {
    throw isFeedctlError(error) ? error : bad('cannot be read', error);
  }
}

/** The cache failed, and not the store behind it. */
export const isCacheError = (error: unknown): boolean =>
  error instanceof StaleState || (isFeedctlError(error) && error.code.startsWith('CACHE_'));

/** The state of the cache is not the one the caller knows. */
export class StaleState extends Error {}

function checkServer(info: Map<string, string>): ServerInfo {
  const unsuitable = (why: string) => new FeedctlError('CACHE_UNSUITABLE', `the cache ${why}`);
  const version = info.get('redis_version');
  const runId = info.get('run_id');
  if (!version || !runId) throw unsuitable('says of itself that it is no Redis');
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < OLDEST_VERSION[0] || (major === OLDEST_VERSION[0] && minor < OLDEST_VERSION[1]))
    throw unsuitable(`is Redis ${version}, needed is ${OLDEST_VERSION.join('.')} or newer`);
  if (info.get('redis_mode') === 'cluster') throw unsuitable('is a Redis Cluster, needed is one server');
  if (info.get('role') === 'slave') throw unsuitable('is a replica, which takes no writes');
  // It is loading what it saved: it answers in a moment.
  if (info.get('loading') === '1')
    throw new FeedctlError('CACHE_UNREACHABLE', 'the cache is loading its data');
  const unlimited = info.get('maxmemory') === '0';
  const refusesWhenFull = !unlimited && info.get('maxmemory_policy') === 'noeviction';
  return { runId, version, refusesWhenFull, unlimited };
}
