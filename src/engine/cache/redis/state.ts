import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../database/database.ts';
import { Identity, readEarlierPrefixes } from '../../identity/identity.ts';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { Coalesced } from '../../util/coalesce.ts';
import { ServerUrl } from '../../util/serverUrl.ts';
import type { CacheHealth } from '../cache.ts';
import { basePrefix } from './cacheUrl.ts';
import { isCacheError, RedisConnection, type ServerInfo, StaleState } from './connection.ts';
import { endpointFor } from './endpoint.ts';
import { CacheEpoch, READERS_KNOW_MS } from './epoch.ts';
import { Marks } from './marks.ts';
import type { ScriptName } from './scripts.ts';

/** The state of the cache: the prefix of all valid keys, and the text that scripts compare. */
export interface State {
  readonly runId: string;
  readonly base: string;
  readonly epoch: number;
  /** The database server whose process has adopted the state. */
  readonly instance: string;
  /** `<epoch>:<nonce>:<instance>`. The nonce changes when Redis is flushed. */
  readonly text: string;
  readonly key: string;
  readonly prefix: string;
  /** Key of the newest mark that the database of this lineage had. */
  readonly markKey: string;
}

/** What Redis holds about the state, whichever it is. */
interface Found {
  /** '' where there is none. */
  readonly text: string;
  readonly epoch: number;
  readonly nonce: string;
  /** undefined in a state of a process whose version names no server. */
  readonly instance: string | undefined;
  readonly mark: string | undefined;
  readonly writes: string;
  /** The mark is newer than every write. */
  readonly covered: boolean;
}

/** Maximum number of changes of the state (epochs, flushes, lineages) during one call. */
const TRIES = 8;
/** Scripts whose values come from the database. */
const WRITES: ReadonlySet<ScriptName> = new Set(['fill', 'push', 'posts', 'edit']);
const CACHE_SEES_MORE = 'the cache has seen commits that the database lacks';

/**
 * Redis, together with the epoch and the lineage in the database: decides which keys are valid, and handles
 * a change that cannot be reported to Redis.
 */
export class RedisState {
  readonly connection: RedisConnection;
  readonly epoch: CacheEpoch;
  readonly #url: string;
  readonly #db: Database;
  readonly #identity: Identity;
  readonly #marks: Marks;
  readonly #identified = new Coalesced(() => this.#identity.refresh());
  #state: State | undefined;
  /** The connection whose server was named in the database. */
  #agreed: ServerInfo | undefined;
  /** Base and server whose earlier bases are known to be closed. */
  #closedEarlier: string | undefined;
  /** The mark that the database was last found to have, with lineage and instance. */
  #checkedMark: string | undefined;
  /** Base and epoch that began because values could not be trusted. */
  #begun: string | undefined;
  failures = 0;
  /** Called when every cached value has become invalid. */
  onCold: () => void = () => {};

  private constructor(
    connection: RedisConnection,
    epoch: CacheEpoch,
    { url, db, identity }: { url: string; db: Database; identity: Identity },
  ) {
    this.connection = connection;
    this.epoch = epoch;
    this.#url = url;
    this.#db = db;
    this.#identity = identity;
    this.#marks = new Marks(connection, identity);
  }

  /**
   * Throws as `RedisConnection.open` does. A Redis that is down is no error. `identity`: read here where the
   * caller has none.
   */
  static async open(
    url: string | ServerUrl,
    db: Database,
    log: Log,
    metrics?: Metrics,
    identity?: Identity,
  ): Promise<RedisState> {
    const known = identity ?? (await Identity.open(db, log));
    const connection = await RedisConnection.open(endpointFor(url, known.cluster), log, metrics);
    try {
      const epoch = await CacheEpoch.open(db, known);
      return new RedisState(connection, epoch, { url: ServerUrl.of(url).current, db, identity: known });
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** Finds a database that went back at the start, and not at the first read. */
  async begin(): Promise<void> {
    await this.now().catch(ignoreCacheError);
  }

  /** Prefix of all keys of this lineage, including older epochs. */
  get base(): string {
    return this.#baseOf(this.#identity.keyPrefix);
  }

  #baseOf(keyPrefix: string): string {
    return basePrefix(this.#url, this.#identity.cluster, keyPrefix);
  }

  /** Prefixes of the cluster's keys: of this lineage, and of what outlives it. */
  get bases(): readonly string[] {
    return [this.base, this.#baseOf(this.#identity.cluster)];
  }

  /**
   * Returns the state, which it asks Redis for once an epoch, a lineage and a database server. Throws
   * CACHE_UNREACHABLE.
   */
  async now(): Promise<State> {
    for (let tries = 0; tries < TRIES; tries += 1) {
      const { server } = this.connection;
      if (!server) break;
      const known = this.#state;
      if (known && known.runId === server.runId && this.#isPresent(known)) return known;
      await this.#asked(() => this.#agree(server));
      const state = await this.#adopt(server.runId);
      if (!state) continue;
      if (known?.prefix !== state.prefix || nonceOf(known.text) !== nonceOf(state.text)) this.onCold();
      this.#state = state;
      return state;
    }
    throw this.connection.failure();
  }

  /** Returns whether the database names this server as the cache. Throws CACHE_UNREACHABLE. */
  async isUsed(): Promise<boolean> {
    const { server } = this.connection;
    if (!server) throw this.connection.failure();
    return this.epoch.names(server.runId);
  }

  /**
   * Makes this server the one that holds the cache, once a connection. If the other processes have moved to
   * another one since, this process leaves it. Throws CACHE_UNREACHABLE then.
   */
  async #agree(server: ServerInfo): Promise<void> {
    if (this.#agreed !== server) {
      await this.epoch.claim(server.runId);
      this.#agreed = server;
    }
    // Another process may have named another server since. A later one raises the epoch that is known here.
    await this.#confirm(server.runId);
  }

  /** Throws CACHE_UNREACHABLE, and leaves the server, unless it still holds the cache. */
  async #confirm(runId: string): Promise<void> {
    if (await this.epoch.names(runId)) return;
    this.connection.move(runId);
    throw this.connection.failure();
  }

  #isPresent({ base, epoch, instance }: State): boolean {
    const { epoch: now } = this;
    return (
      base === this.base && now.isCurrent && epoch === now.number && instance === this.#identity.instance
    );
  }

  /**
   * Adopts the state in Redis, or starts one. Returns undefined where something has changed meanwhile. The
   * database is asked after Redis: a lineage that another process opens later closes this state, and scripts
   * find that.
   */
  async #adopt(runId: string): Promise<State | undefined> {
    const { base } = this;
    await this.#closeEarlier(base, runId);
    const key = stateKey(base, runId);
    const markKey = `${base}mark`;
    const found = readFound(await this.connection.script('look', runId, key, markKey));
    if (!found) throw this.connection.failure();
    if (!(await this.#asked(() => this.#check(base, found)))) return undefined;
    const { number: epoch } = this.epoch;
    const { instance } = this.#identity;
    const stateOf = (text: string): State => {
      return { runId, base, epoch, instance, text, key, prefix: `${base}${runId}:${epoch}:`, markKey };
    };
    if (found.epoch === epoch && found.instance === instance) {
      const state = stateOf(found.text);
      if (!found.covered) this.#marks.wrote(state);
      return state;
    }
    const isEmpty = hasNoValues(found, epoch) || (!found.text && this.#begun === `${base}${epoch}`);
    if (!isEmpty && !this.#isOwn(base, runId, found)) {
      // Values of the last moments may be of another server's history: an epoch without them begins.
      await this.#asked(() => this.epoch.raise());
      this.#begun = `${base}${this.epoch.number}`;
      return undefined;
    }
    const nonce = found.epoch === epoch ? found.nonce : randomBytes(6).toString('hex');
    const text = `${epoch}:${nonce}:${instance}`;
    // A mark that is made now is unknown to a copy of the database, which then cannot take the state over.
    const mark = await this.#asked(() => (isEmpty ? this.#identity.mark() : this.#identity.freshMark()));
    const adopted = await this.connection.script(
      ...(['adopt', runId, key, found.text, found.writes, text, markKey, mark] as const),
    );
    // A lineage that was opened before this script has not closed its state.
    const isPresent = await this.#asked(() => this.#identified.run().then(() => base === this.base));
    return adopted === 1 && isPresent ? stateOf(text) : undefined;
  }

  /**
   * Removes the states of earlier lineages, whose processes then look again and learn of this one: no change
   * is reported to an earlier base once this base is in use.
   */
  async #closeEarlier(base: string, runId: string): Promise<void> {
    const name = `${base}${runId}`;
    if (this.#closedEarlier === name) return;
    const prefixes = await this.#asked(() => readEarlierPrefixes(this.#db));
    const keys = prefixes.map((prefix) => Buffer.from(stateKey(this.#baseOf(prefix), runId)));
    if (keys.length > 0) await this.connection.remove(runId, keys);
    this.#closedEarlier = name;
  }

  /**
   * Compares what Redis has seen with the database. Opens a new lineage if the database has lost some of it.
   * Returns false where the caller has to look again.
   */
  async #check(base: string, found: Found): Promise<boolean> {
    await this.#identified.run();
    if (base !== this.base) return false;
    const { mark } = found;
    const name = `${base} ${this.#identity.instance} ${mark}`;
    if (mark !== undefined && this.#checkedMark !== name) {
      if (!(await this.#identity.hasMark(mark))) {
        if (base === this.base) await this.#identity.renew(CACHE_SEES_MORE);
        return false;
      }
      this.#checkedMark = name;
    }
    if (this.epoch.isCurrent && found.epoch <= this.epoch.number) return true;
    await this.epoch.refresh();
    // An epoch is committed before any process starts it.
    const isLost = this.epoch.isCurrent && found.epoch > this.epoch.number;
    if (isLost && base === this.base) await this.#identity.renew(CACHE_SEES_MORE);
    return false;
  }

  /**
   * Returns whether everything in Redis is of the present history, although another server has adopted the
   * state: the database has a mark that is newer than all of it, or this process has used the same state
   * until its server restarted.
   */
  #isOwn(base: string, runId: string, { text, covered, instance }: Found): boolean {
    const used = this.#state;
    const usedIt = used?.base === base && used.runId === runId && (text === '' || text === used.text);
    return covered || usedIt || (text !== '' && instance === undefined);
  }

  /** Without the database's answer the cache cannot be used. */
  async #asked<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (isCacheError(error)) throw error;
      const why = `the cache cannot be compared with the database: ${messageOf(error)}`;
      throw new FeedctlError('CACHE_UNREACHABLE', why, { cause: error });
    }
  }

  async script(state: State, name: ScriptName, ...values: (string | Buffer | number)[]): Promise<unknown> {
    const result = await this.connection.script(name, state.runId, state.key, state.text, ...values);
    if (WRITES.has(name)) this.#marks.wrote(state);
    return result;
  }

  /** Reads values of the state in one command with the state itself. Throws StaleState, as scripts do. */
  async getMany(state: State, keys: readonly Buffer[]): Promise<(Buffer | null)[]> {
    if (keys.length === 0) return [];
    const [text, ...values] = await this.connection.getMany(state.runId, [Buffer.from(state.key), ...keys]);
    if (text?.toString() !== state.text) throw new StaleState();
    return values;
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
   * Reports a committed change to Redis. If that fails, or other processes may use another server by
   * now, it raises the epoch, which invalidates every cached value before the change is acknowledged.
   * With `awaitReaders` it then also waits until every reader knows of the new epoch. Throws where
   * the database fails too.
   */
  async report(work: (state: State) => Promise<unknown>, options: { awaitReaders: boolean }): Promise<void> {
    try {
      const state = await this.run(async (now) => {
        await work(now);
        return now;
      });
      if (!(await this.#isStillUsed(state))) await this.#confirm(state.runId);
    } catch (error) {
      if (!isCacheError(error)) throw error;
      this.failures += 1;
      await this.epoch.raise();
      if (options.awaitReaders) await sleep(READERS_KNOW_MS);
    }
  }

  /**
   * Returns whether the server of a state is known to hold the cache still, after a change was written
   * there. Another server is named together with a new epoch, and is not used before 300 ms have passed. An
   * epoch is trusted for 250 ms. So what another server will hold is read after the change.
   */
  async #isStillUsed(state: State): Promise<boolean> {
    const trusted = await this.epoch.trusted();
    return trusted && this.connection.server?.runId === state.runId && this.#isPresent(state);
  }

  health(): CacheHealth {
    const { server } = this.connection;
    if (!server) {
      const { code, message, suggestions } = this.connection.failure();
      return { version: '', ready: false, detail: message, code, fix: suggestions[0] };
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
    await this.#marks.close();
    await this.epoch.close();
    await this.connection.close();
  }
}

const stateKey = (base: string, runId: string): string => `${base}${runId}:state`;

/** Returns whether no value can be below the prefix of an epoch. */
const hasNoValues = ({ text, epoch, mark, writes }: Found, ours: number): boolean =>
  text === '' ? mark === undefined && writes === '0' : epoch < ours;

const nonceOf = (text: string): string | undefined => text.split(':')[1];

function readFound(reply: unknown): Found | undefined {
  // Only a server that is no Redis answers in another way.
  if (!Array.isArray(reply)) return undefined;
  const [state, mark, writes, covered] = reply as [Buffer | null, Buffer | null, Buffer, number];
  const text = String(state ?? '');
  const [epoch, nonce = '', instance] = text.split(':');
  return {
    text,
    epoch: text ? Number(epoch) : 0,
    nonce: nonce || randomBytes(6).toString('hex'),
    instance,
    mark: mark ? String(mark) : undefined,
    writes: String(writes),
    covered: covered === 1,
  };
}

/** For `catch`: returns undefined for an error of the cache, and throws any other error. */
export function ignoreCacheError(error: unknown): undefined {
  if (!isCacheError(error)) throw error;
}
