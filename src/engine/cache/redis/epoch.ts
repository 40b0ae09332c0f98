import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Listener, Queryable } from '../../database/database.ts';
import { Coalesced } from '../../util/coalesce.ts';
import { withTimeout } from '../../util/deadline.ts';

const CHANNEL = 'feedctl_cache_epoch';
const SETTING = 'cache.epoch';
/** A confirmation of the epoch by the database is trusted for this long. */
const TRUST_MS = 250;
/** Maximum wait for a confirmation. Without one the cache is not used. */
const CONFIRM_TIMEOUT_MS = 1_000;
/**
 * After this long every reader knows of a new epoch, or does not use the cache: 50 ms of margin.
 */
export const READERS_KNOW_MS = TRUST_MS + 50;
/** Minimum time between two new epochs: changes that fail to reach Redis meanwhile share one. */
const RAISE_INTERVAL_MS = 100;

/**
 * In: the setting. Result: the new epoch. Atomic: readers are notified if and only if the row is
 * committed.
 */
const RAISE = `
  with epoch as (
    insert into settings (name, value) values ($1, '1')
    on conflict (name) do update set value = to_jsonb((settings.value #>> '{}')::bigint + 1)
    returning value #>> '{}' as value)
  select value::bigint as epoch, pg_notify('${CHANNEL}', value) from epoch`;

/**
 * The generation of the cache. A process that cannot report a change to Redis raises the epoch in
 * the database instead: values of older epochs are no longer read.
 */
export class CacheEpoch {
  readonly #db: Database;
  #number: number;
  #listener: Promise<Listener> | undefined;
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #confirming: Promise<void> | undefined;
  readonly #raising = new Coalesced(() => this.#raise());
  #paused: Promise<void> | undefined;
  #raisedAt = 0;
  /** Round trips that confirmed the epoch. */
  checks = 0;
  onChange: () => void = () => {};

  private constructor(db: Database, number: number) {
    this.#db = db;
    this.#number = number;
  }

  static async open(db: Database): Promise<CacheEpoch> {
    return new CacheEpoch(db, await readEpoch(db));
  }

  get number(): number {
    return this.#number;
  }

  async refresh(): Promise<void> {
    this.#learn(await readEpoch(this.#db));
  }

  /**
   * Returns whether the cache may be used: the database has answered within 250 ms on the session
   * that is notified of epochs. Every change that was acknowledged before is then in the cache, or
   * its new epoch is known here.
   */
  async trusted(): Promise<boolean> {
    const age = performance.now() - this.#confirmedAt;
    if (age < TRUST_MS / 2) return true;
    const confirmed = this.#confirm().then(
      () => performance.now() - this.#confirmedAt < TRUST_MS,
      () => false,
    );
    return age < TRUST_MS || confirmed;
  }

  /**
   * Resolves when a new epoch is committed that began after this call: a change made before is in
   * no value of that epoch. Callers within 100 ms share one.
   */
  raise(): Promise<void> {
    const pauseMs = Math.max(0, this.#raisedAt + RAISE_INTERVAL_MS - performance.now());
    this.#paused ??= sleep(pauseMs).then(() => {
      this.#paused = undefined;
      return this.#raising.run();
    });
    return this.#paused;
  }

  /** Raises the epoch in the caller's transaction. */
  raiseWithin(session: Queryable): Promise<void> {
    return raiseEpoch(session);
  }

  async close(): Promise<void> {
    await (await this.#listener?.catch(() => undefined))?.close();
  }

  async #raise(): Promise<void> {
    this.#raisedAt = performance.now();
    const { rows } = await this.#db.query<{ epoch: number }>(RAISE, [SETTING]);
    this.#learn(rows[0]!.epoch);
  }

  #confirm(): Promise<void> {
    this.#confirming ??= (async () => {
      const askedAt = performance.now();
      this.checks += 1;
      this.#listener ??= this.#listen();
      const listener = await this.#listener;
      await withTimeout(CONFIRM_TIMEOUT_MS, listener.barrier(), () => new Error('no answer'));
      this.#confirmedAt = askedAt;
    })().finally(() => {
      this.#confirming = undefined;
    });
    return this.#confirming;
  }

  #listen(): Promise<Listener> {
    const listener = this.#db.listen([CHANNEL], {
      onNotify: (_, payload) => this.#learn(Number(payload)),
      onListening: async (session) => this.#learn(await readEpoch(session)),
      onLost: () => {
        this.#confirmedAt = Number.NEGATIVE_INFINITY;
      },
    });
    listener.catch(() => {
      this.#listener = undefined;
    });
    return listener;
  }

  #learn(number: number): void {
    if (number <= this.#number) return;
    this.#number = number;
    this.onChange();
  }
}

/** Invalidates every cached value when the transaction of the session commits. */
export async function raiseEpoch(session: Queryable): Promise<void> {
  await session.query(RAISE, [SETTING]);
}

async function readEpoch(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ epoch: number }>(
    `select (value #>> '{}')::bigint as epoch from settings where name = $1`,
    [SETTING],
  );
  return rows[0]?.epoch ?? 0;
}

/**
 * Names this database among all that share a Redis. The name contains the timeline: a server that
 * was restored or promoted starts with an empty cache.
 */
export async function databaseName(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ name: string }>(
    `select system_identifier || '.' || oid || '.'
            || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) as name
     from pg_control_system(), pg_database where datname = current_database()`,
  );
  return rows[0]!.name;
}
