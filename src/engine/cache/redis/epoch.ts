import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Listener, Queryable } from '../../database/database.ts';
import { withTimeout } from '../../util/deadline.ts';

const CHANNEL = 'feedctl_cache_epoch';
const SETTING = 'cache.epoch';
/** A reader who has heard from the database within this time uses the cache. */
const TRUST_MS = 250;
/** A database that says nothing any more is waited for no longer: the cache is not used then. */
const CONFIRM_MS = 1_000;
/** Beyond it a reader either knows of a new epoch or does not use the cache. */
export const READERS_KNOW_MS = TRUST_MS + 50;
/** A cache that cannot be told of changes is given up so often, for all changes of that time together. */
const BUMP_INTERVAL_MS = 100;

/** In: by how much. Atomic: the row, and the word to every reader when it is committed. */
const RAISE = `
  with epoch as (
    insert into settings (name, value) values ($1, '1')
    on conflict (name) do update set value = to_jsonb((settings.value #>> '{}')::bigint + 1)
    returning value #>> '{}' as value)
  select value::bigint as epoch, pg_notify('${CHANNEL}', value) from epoch`;

/**
 * Which generation of the cache counts. Whoever could not tell the cache of a change raises the epoch in the
 * database instead: nothing of an older one is read from then on.
 */
export class CacheEpoch {
  readonly #db: Database;
  #number: number;
  #listener: Promise<Listener> | undefined;
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #confirming: Promise<void> | undefined;
  #current: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #raisedAt = 0;
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
    this.#heard(await readEpoch(this.#db));
  }

  /**
   * True where no change can have been acknowledged that the cache was not told of and this process does not know of:
   * the database has answered on the session that hears of epochs, a moment ago.
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
   * Resolves when a new epoch is committed that began after this call: what changed before it is in no cache of
   * that epoch. Callers within a tenth of a second share one.
   */
  raise(): Promise<void> {
    this.#next ??= this.#current
      .catch(() => {})
      .then(async () => {
        await sleep(Math.max(0, this.#raisedAt + BUMP_INTERVAL_MS - performance.now()));
        this.#next = undefined;
        this.#current = this.#raise();
        return this.#current;
      });
    return this.#next;
  }

  /** A new epoch with the commit of the caller's transaction. */
  async raiseWithin(session: Queryable): Promise<void> {
    await session.query(RAISE, [SETTING]);
  }

  async close(): Promise<void> {
    await (await this.#listener?.catch(() => undefined))?.close();
  }

  async #raise(): Promise<void> {
    this.#raisedAt = performance.now();
    const { rows } = await this.#db.query<{ epoch: number }>(RAISE, [SETTING]);
    this.#heard(rows[0]!.epoch);
  }

  #confirm(): Promise<void> {
    this.#confirming ??= (async () => {
      const askedAt = performance.now();
      this.checks += 1;
      this.#listener ??= this.#listen();
      const listener = await this.#listener;
      await withTimeout(CONFIRM_MS, listener.barrier(), () => new Error('no answer'));
      this.#confirmedAt = askedAt;
    })().finally(() => {
      this.#confirming = undefined;
    });
    return this.#confirming;
  }

  #listen(): Promise<Listener> {
    const listener = this.#db.listen([CHANNEL], {
      onNotify: (_, payload) => this.#heard(Number(payload)),
      onListening: async (session) => this.#heard(await readEpoch(session)),
      onLost: () => {
        this.#confirmedAt = Number.NEGATIVE_INFINITY;
      },
    });
    listener.catch(() => {
      this.#listener = undefined;
    });
    return listener;
  }

  #heard(number: number): void {
    if (number <= this.#number) return;
    this.#number = number;
    this.onChange();
  }
}

async function readEpoch(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ epoch: number }>(
    `select (value #>> '{}')::bigint as epoch from settings where name = $1`,
    [SETTING],
  );
  return rows[0]?.epoch ?? 0;
}

/**
 * Names this database among all that share a Redis. A server that was restored or promoted has another timeline, and
 * starts with an empty cache.
 */
export async function databaseName(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ name: string }>(
    `select system_identifier || '.' || oid || '.' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) as name
     from pg_control_system(), pg_database where datname = current_database()`,
  );
  return rows[0]!.name;
}
