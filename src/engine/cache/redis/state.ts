import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../database/database.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { CacheHealth } from '../cache.ts';
import { basePrefix } from './cacheUrl.ts';
import { isCacheError, RedisConnection, type ServerInfo, StaleState } from './connection.ts';
import { endpointFor } from './endpoint.ts';
import { CacheEpoch, databaseName, READERS_KNOW_MS } from './epoch.ts';
import type { ScriptName } from './scripts.ts';

/** The state of the cache: the prefix of all valid keys, and the text that scripts compare. */
export interface State {
  readonly runId: string;
  readonly epoch: number;
  /** Epoch and nonce. The nonce changes when Redis is flushed. */
  readonly text: string;
  readonly key: string;
  readonly prefix: string;
}

/** Maximum number of changes of the state (epochs, flushes) during one call. */
const TRIES = 5;

/**
 * Redis, together with the epoch in the database: decides which keys are valid, and handles a
 * change that cannot be reported to Redis.
 */
export class RedisState {
  readonly connection: RedisConnection;
  readonly epoch: CacheEpoch;
  /** Prefix of all keys of this cluster, including older epochs and request limits. */
  readonly base: string;
  #state: State | undefined;
  /** The connection whose server was named in the database. */
  #agreed: ServerInfo | undefined;
  failures = 0;
  /** Called when every cached value has become invalid. */
  onCold: () => void = () => {};

  private constructor(connection: RedisConnection, epoch: CacheEpoch, base: string) {
    this.connection = connection;
    this.epoch = epoch;
    this.base = base;
  }

  /** Throws as `RedisConnection.open` does. A Redis that is down is no error. */
  static async open(url: string, db: Database, log: Log, metrics?: Metrics): Promise<RedisState> {
    const name = await databaseName(db);
    const connection = await RedisConnection.open(endpointFor(url, name), log, metrics);
    try {
      return new RedisState(connection, await CacheEpoch.open(db), basePrefix(url, name));
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** Returns the state, which it asks Redis for once an epoch. Throws CACHE_UNREACHABLE. */
  async now(): Promise<State> {
    for (let tries = 0; tries < TRIES; tries += 1) {
      const { server } = this.connection;
      if (!server) break;
      const { runId } = server;
      const known = this.#state;
      if (known && known.runId === runId && known.epoch === this.epoch.number) return known;
      await this.#agree(server);
      const base = `${this.base}${runId}:`;
      const key = `${base}state`;
      const nonce = randomBytes(6).toString('hex');
      const text = String(await this.connection.script('adopt', runId, key, this.epoch.number, nonce));
      const epoch = Number.parseInt(text, 10);
      if (epoch !== this.epoch.number) {
        await this.epoch.refresh();
        continue;
      }
      if (this.#state?.text !== text) this.onCold();
      this.#state = { runId, epoch, text, key, prefix: `${base}${epoch}:` };
    }
    throw this.connection.failure();
  }

  /**
   * Makes this server the one that holds the cache, once a connection. If the other processes have moved to
   * another one since, this process leaves it. Throws CACHE_UNREACHABLE then.
   */
  async #agree(server: ServerInfo): Promise<void> {
    if (this.#agreed === server) return this.#confirm(server.runId);
    await this.epoch.claim(server.runId);
    this.#agreed = server;
  }

  /** Throws CACHE_UNREACHABLE, and leaves the server, unless it still holds the cache. */
  async #confirm(runId: string): Promise<void> {
    if (await this.epoch.names(runId)) return;
    this.connection.move(runId);
    throw this.connection.failure();
  }

  script(state: State, name: ScriptName, ...values: (string | Buffer | number)[]): Promise<unknown> {
    return this.connection.script(name, state.runId, state.key, state.text, ...values);
  }

  /**
   * Runs `work` with the current state, again where the state has changed meanwhile. Throws
   * CACHE_UNREACHABLE.
   */
  async run<T>(work: (state: State) => Promise<T>): Promise<T> {
    for (let tries = 0; tries < TRIES; tries += 1) {
      const now = await this.now();
      try {
        return await work(now);
      } catch (error) {
        if (!(error instanceof StaleState)) throw error;
        if (this.#state === now) this.#state = undefined;
      }
    }
    throw this.connection.failure();
  }

  /**
   * Reports a committed change to Redis. If that fails, or other processes use another server by
   * now, it raises the epoch, which invalidates every cached value before the change is acknowledged.
   * With `awaitReaders` it then also waits until every reader knows of the new epoch. Throws where
   * the database fails too.
   */
  async report(work: (state: State) => Promise<unknown>, options: { awaitReaders: boolean }): Promise<void> {
    try {
      const runId = await this.run(async (now) => {
        await work(now);
        return now.runId;
      });
      await this.#confirm(runId);
    } catch (error) {
      if (!isCacheError(error)) throw error;
      this.failures += 1;
      await this.epoch.raise();
      if (options.awaitReaders) await sleep(READERS_KNOW_MS);
    }
  }

  health(): CacheHealth {
    const { server } = this.connection;
    if (!server) {
      const { message, suggestions } = this.connection.failure();
      return { version: '', ready: false, detail: message, fix: suggestions[0] };
    }
    return {
      server: server.name,
      version: server.version,
      ready: true,
      detail: `${this.connection.shownUrl}, epoch ${this.epoch.number}`,
      ...(server.refusesWhenFull && {
        warning: {
          text: 'maxmemory-policy is noeviction: a full Redis refuses writes, which then empties the cache',
          fix: 'Set maxmemory-policy to allkeys-lru.',
        },
      }),
      ...(server.unlimited && {
        warning: {
          text: 'maxmemory is not set: Redis grows with the number of feeds that are read within an hour',
          fix: 'Set maxmemory to the memory that the machine can spare, and maxmemory-policy to allkeys-lru.',
        },
      }),
    };
  }

  async close(): Promise<void> {
    await this.epoch.close();
    await this.connection.close();
  }
}

/** For `catch`: returns undefined for an error of the cache, and throws any other error. */
export function ignoreCacheError(error: unknown): undefined {
  if (!isCacheError(error)) throw error;
}
