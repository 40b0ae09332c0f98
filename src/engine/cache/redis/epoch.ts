import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Listener, Queryable } from '../../database/database.ts';
import type { Identity } from '../../identity/identity.ts';
import { listenConfirmed } from '../../identity/listen.ts';
import { Coalesced } from '../../util/coalesce.ts';
import { withTimeout } from '../../util/deadline.ts';

const CHANNEL = 'feedctl_cache_epoch';
const SETTING = 'cache.epoch';
/** Names the server that holds the cache by its run id, and since when if there was another one before. */
const SERVER_SETTING = 'cache.server';
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
 * In: the settings of the epoch and of the server, the server. Atomic: of all processes that name the same
 * server in place of another one, one raises the epoch.
 */
const CLAIM = `
  with claimed as (
    insert into settings (name, value) values ($2, jsonb_build_object('server', $3::text))
    on conflict (name) do update set value = excluded.value || jsonb_build_object('since', clock_timestamp())
      where settings.value ->> 'server' <> $3
    returning value ? 'since' as moved),
  epoch as (
    insert into settings (name, value) select $1, '1' from claimed where moved
    on conflict (name) do update set value = to_jsonb((settings.value #>> '{}')::bigint + 1)
    returning value #>> '{}' as value)
  select pg_notify('${CHANNEL}', value) from epoch`;

/**
 * In: the setting of the server, the milliseconds after which every process knows of it. A commit may become
 * visible long after its time, where a standby confirms it: the whole wait counts from this look.
 */
const READ_SERVER = `
  select value ->> 'server' as server,
         case when (value ->> 'since')::timestamptz > clock_timestamp() - interval '1 minute'
              then $2 else 0 end::float8 as "waitMs"
  from settings where name = $1`;

/**
 * The generation of the cache. A process that cannot report a change to Redis raises the epoch in
 * the database instead: values of older epochs are no longer read. A database that went back in time has
 * a lower epoch, in a new lineage.
 */
export class CacheEpoch {
  readonly #db: Database;
  readonly #identity: Identity;
  #number = 0;
  /** The lineage in which the epoch was read. */
  #lineage: string | undefined;
  #listener: Promise<Listener> | undefined;
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #confirming: Promise<void> | undefined;
  readonly #raising = new Coalesced(() => this.#raise());
  readonly #reading = new Coalesced(() => this.#readServer());
  #paused: Promise<void> | undefined;
  #raisedAt = 0;
  /** Round trips that confirmed the epoch. */
  checks = 0;
  onChange: () => void = () => {};

  private constructor(db: Database, identity: Identity) {
    this.#db = db;
    this.#identity = identity;
  }

  static async open(db: Database, identity: Identity): Promise<CacheEpoch> {
    const epoch = new CacheEpoch(db, identity);
    await epoch.refresh();
    return epoch;
  }

  get number(): number {
    return this.#number;
  }

  /** The epoch is of the present lineage. */
  get isCurrent(): boolean {
    return this.#lineage === this.#identity.lineage;
  }

  async refresh(): Promise<void> {
    const { lineage } = this.#identity;
    this.#learn(await readEpoch(this.#db), lineage);
  }

  /**
   * Returns whether the cache may be used: the database has answered within 250 ms on the session
   * that is notified of epochs, and that session leads to the present lineage. Every change that was
   * acknowledged before is then in the cache, or its new epoch is known here.
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

  /**
   * Names the server that holds the cache from now on. Raises the epoch where that was another one: this
   * one may have values of an earlier use, as a master that was demoted meanwhile, or a node whose slot
   * has come back. Resolves when no other process trusts the epoch before any more: then none reads from the
   * other server, and none takes a change as reported that only the other server has.
   */
  async claim(server: string): Promise<void> {
    if (!(await this.names(server))) await this.#db.query(CLAIM, [SETTING, SERVER_SETTING, server]);
    const named = await this.#reading.run();
    if (named) await sleep(named.waitMs);
    await this.refresh();
  }

  /** Returns whether this server holds the cache. Concurrent calls share one query that begins later. */
  async names(server: string): Promise<boolean> {
    return (await this.#reading.run())?.server === server;
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
    const { lineage } = this.#identity;
    const { rows } = await this.#db.query<{ epoch: number }>(RAISE, [SETTING]);
    this.#learn(rows[0]!.epoch, lineage);
  }

  async #readServer(): Promise<{ server: string; waitMs: number } | undefined> {
    const values = [SERVER_SETTING, READERS_KNOW_MS];
    const { rows } = await this.#db.query<{ server: string; waitMs: number }>(READ_SERVER, values);
    return rows[0];
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
    const listener = listenConfirmed(this.#db, this.#identity, [CHANNEL], {
      onNotify: (_, payload) => this.#learn(Number(payload), this.#identity.lineage),
      onListening: async (session) => this.#learn(await readEpoch(session), this.#identity.lineage),
      onLost: () => {
        this.#confirmedAt = Number.NEGATIVE_INFINITY;
      },
    });
    listener.catch(() => {
      this.#listener = undefined;
    });
    return listener;
  }

  #learn(number: number, lineage: string): void {
    if (lineage === this.#lineage && number <= this.#number) return;
    this.#lineage = lineage;
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
