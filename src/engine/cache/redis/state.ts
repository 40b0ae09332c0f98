import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../database/database.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { CacheHealth } from '../cache.ts';
import { isCacheError, RedisConnection, StaleState } from './connection.ts';
import { CacheEpoch, databaseName, READERS_KNOW_MS } from './epoch.ts';
import type { ScriptName } from './scripts.ts';

/** What all keys of now begin with, and what scripts compare. */
export interface State {
  readonly runId: string;
  readonly epoch: number;
  /** Epoch and nonce: another one after a flush. */
  readonly text: string;
  readonly key: string;
  readonly prefix: string;
}

/** Epochs and flushes that one call may run into. */
const TRIES = 5;

/**
 * Redis, seen through the epoch of the database: which keys count now, and what happens to a change that Redis
 * cannot be told of.
 */
export class RedisState {
  readonly connection: RedisConnection;
  readonly epoch: CacheEpoch;
  readonly #database: string;
  #state: State | undefined;
  failures = 0;
  /** Everything that was held is gone. */
  onCold: () => void = () => {};

  private constructor(connection: RedisConnection, epoch: CacheEpoch, database: string) {
    this.connection = connection;
    this.epoch = epoch;
    this.#database = database;
  }

  /** Throws as `RedisConnection.open`; a Redis that is away is gone without. */
  static async open(url: string, db: Database, log: Log, metrics?: Metrics): Promise<RedisState> {
    const connection = await RedisConnection.open(url, log, metrics);
    try {
      return new RedisState(connection, await CacheEpoch.open(db), await databaseName(db));
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** What all keys of this cluster begin with, those of epochs that are over and of limits too. */
  get base(): string {
    return `feedctl:${this.#database}:`;
  }

  /** Throws CACHE_UNREACHABLE. */
  async now(): Promise<State> {
    for (let tries = 0; tries < TRIES; tries += 1) {
      const { server } = this.connection;
      if (!server) break;
      const { runId } = server;
      const known = this.#state;
      if (known && known.runId === runId && known.epoch === this.epoch.number) return known;
      const base = `${this.base}${runId}:`;
      const key = `${base}state`;
      const nonce = randomBytes(6).toString('hex');
      const text = String(await this.connection.script('ADOPT', runId, key, this.epoch.number, nonce));
      const epoch = Number.parseInt(text, 10);
      if (epoch !== this.epoch.number) {
        await this.epoch.refresh();
        continue;
      }
      if (this.#state?.text !== text) this.onCold();
      this.#state = { runId, epoch, text, key, prefix: `${base}${epoch}:` };
    }
    throw this.connection.away();
  }

  script(state: State, name: ScriptName, ...values: (string | Buffer | number)[]): Promise<unknown> {
    return this.connection.script(name, state.runId, state.key, state.text, ...values);
  }

  /** Does `work` with the state of now, again where it was another one. Throws CACHE_UNREACHABLE. */
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
    throw this.connection.away();
  }

  /**
   * Tells Redis of a committed change. Where that fails, everything that is held is given up, before the change is
   * acknowledged; `seen`: and only after no reader can be left who does not know of it. Throws where the database
   * fails too.
   */
  async tell(work: (state: State) => Promise<unknown>, options: { seen: boolean }): Promise<void> {
    try {
      await this.run(work);
    } catch (error) {
      if (!isCacheError(error)) throw error;
      this.failures += 1;
      await this.epoch.raise();
      if (options.seen) await sleep(READERS_KNOW_MS);
    }
  }

  health(): CacheHealth {
    const { server } = this.connection;
    if (!server) return { version: '', ready: false, detail: this.connection.away().message };
    return {
      version: server.version,
      ready: true,
      detail: `${this.connection.shownUrl}, epoch ${this.epoch.number}`,
      ...(server.refusesWhenFull && {
        warning: {
          text: 'maxmemory is set with the policy noeviction: full, Redis takes no more, and what it holds is given up over and over',
          fix: 'Set maxmemory-policy to allkeys-lru.',
        },
      }),
      ...(server.unlimited && {
        warning: {
          text: 'maxmemory is not set: Redis grows with the feeds that are read within an hour',
          fix: 'Set maxmemory to what the machine can spare, and maxmemory-policy to allkeys-lru.',
        },
      }),
    };
  }

  async close(): Promise<void> {
    await this.epoch.close();
    await this.connection.close();
  }
}
