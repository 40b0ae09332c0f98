import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { IdMint, type NodeLease, timeOfId } from '../model/ids.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { poll } from '../util/poll.ts';
import { DATABASE_NOW, DatabaseClock } from './databaseClock.ts';

const LEASE_MS = 30_000;
const ACQUIRE_TIMEOUT_MS = 5_000;
const ACQUIRE_POLL_MS = 100;
/**
 * Maximum time that the database's clock may be behind the last id. A clock that is adjusted in small
 * steps catches up with it while a caller waits.
 */
const MAX_BEHIND_MS = 2_000;
/** Maximum time in which a caller that waits gets no id. */
const NO_ID_MS = 5_000;
const FAILURES = ['renewal', 'lost', 'exhausted'] as const;

/**
 * Takes the free node number with the longest idle time. In: owner, lease in ms. Out also: unix ms of the
 * database. Atomic: one statement locks one row. `reserved_until_ms` covers clocks that go back: the next
 * owner of the number starts above every id that the last owner could mint.
 */
const TAKE = `
  update node_leases set owner = $1, expires_at = clock_timestamp() + $2 * interval '1 ms',
         reserved_until_ms = greatest(reserved_until_ms, (${DATABASE_NOW})::bigint) + $2
  where node = (select node from node_leases
                where expires_at < clock_timestamp() and reserved_until_ms < ${DATABASE_NOW} + 1000
                order by reserved_until_ms limit 1 for update skip locked)
  returning node, reserved_until_ms - $2 as from_ms, ${DATABASE_NOW} as now_ms`;

/** In: node, owner, lease in ms. */
const RENEW = `
  update node_leases set expires_at = clock_timestamp() + $3 * interval '1 ms',
         reserved_until_ms = greatest(reserved_until_ms, (${DATABASE_NOW})::bigint + $3)
  where node = $1 and owner = $2 returning reserved_until_ms, ${DATABASE_NOW} as now_ms`;

const RELEASE = `
  update node_leases set owner = null, expires_at = '-infinity', reserved_until_ms = $3
  where node = $1 and owner = $2`;

/** Mints ids for this process, under a leased node number that is renewed until its release. */
export interface IdSource {
  next(): Promise<number>;
  /**
   * Returns `count` rising ids. Waits if the clock does not allow as many yet (64,000 per second).
   * Throws CLOCK_OFF or CLOCK_BEHIND.
   */
  take(count: number): Promise<number[]>;
  /**
   * Throws CLOCK_OFF while the clock of this machine differs too much from the database's, and
   * CLOCK_BEHIND while no id can be minted because the database's clock has gone back.
   */
  checkClock(): void;
  /**
   * Makes sure of the lease before the next id: another history of the database may lack it, and another
   * process may have the same number.
   */
  confirmLease(): void;
  release(): Promise<void>;
}

/**
 * Takes a lease when the first id is needed. Throws NODE_NUMBERS_EXHAUSTED after 5 s without a free
 * number. Ids contain the time of `clock`.
 */
export const openIdSource = (
  db: Database,
  { clock = new DatabaseClock(), metrics }: { clock?: DatabaseClock; metrics?: Metrics | undefined } = {},
): IdSource => new LeasedIds(db, clock, metrics);

/** Clients try again when the clock should have caught up, or within this time. */
const MAX_RETRY_AFTER_SECONDS = 60;

function clockBehind(behindMs: number): FeedctlError {
  const seconds = Math.ceil(behindMs / 1000);
  const error = new FeedctlError(
    'CLOCK_BEHIND',
    `the clock of the database has gone back: it is ${seconds} s behind ids that were minted already`,
  );
  return Object.assign(error, { retryAfterSeconds: Math.max(1, Math.min(seconds, MAX_RETRY_AFTER_SECONDS)) });
}

interface Lease {
  readonly mint: IdMint;
  readonly node: number;
  readonly fromMs: number;
}

class LeasedIds implements IdSource {
  readonly #db: Database;
  readonly #metrics: Metrics | undefined;
  readonly #clock: DatabaseClock;
  readonly #owner = randomUUID();
  #lease: Promise<Lease> | undefined;
  /** The mint of the present lease. */
  #mint: IdMint | undefined;
  /** End of the lease, in unix ms. */
  #untilMs = 0;
  #renewal: NodeJS.Timeout | undefined;
  /** Another history of the database may lack the lease. Each doubt is another object. */
  #doubt: object | undefined;
  #confirming: Promise<void> | undefined;
  #lastId = 0;
  #released = false;

  constructor(db: Database, clock: DatabaseClock, metrics: Metrics | undefined) {
    this.#db = db;
    this.#clock = clock;
    this.#metrics = metrics;
    // A counter that appears with its first failure shows no growth to Prometheus, so each starts
    // at 0.
    for (const reason of FAILURES) this.#failed(reason, 0);
  }

  async next(): Promise<number> {
    return (await this.take(1))[0]!;
  }

  async take(count: number): Promise<number[]> {
    const ids: number[] = [];
    let mintedAt = performance.now();
    while (ids.length < count) {
      if (this.#released) throw new Error('this source of ids has been released');
      this.#lease ??= this.#acquire().catch((error) => {
        this.#lease = undefined;
        throw error;
      });
      const { mint, node } = await this.#lease;
      // Without this, ids of a machine that was suspended would be as old as its sleep.
      if (this.#clock.hasStepped) await this.#clock.read(this.#db);
      this.#clock.check();
      if (this.#doubt) {
        await this.#confirm(node);
        continue;
      }
      const id = mint.tryNext();
      if (id !== undefined) {
        ids.push(id);
        this.#lastId = id;
      } else if (this.#clock.now() > this.#untilMs) {
        this.#drop();
      } else {
        this.checkClock();
        if (performance.now() - mintedAt > NO_ID_MS) throw clockBehind(mint.aheadMs);
        if (mint.aheadMs === 0) await this.#renew(node);
        await sleep(Math.max(1, mint.aheadMs - 10));
        continue;
      }
      mintedAt = performance.now();
    }
    return ids;
  }

  checkClock(): void {
    this.#clock.check();
    const aheadMs = this.#mint?.aheadMs ?? 0;
    if (aheadMs > MAX_BEHIND_MS) throw clockBehind(aheadMs);
  }

  confirmLease(): void {
    if (this.#lease) this.#doubt = {};
  }

  /** Makes sure of the lease. Callers share one attempt. Throws where the database does not answer. */
  #confirm(node: number): Promise<void> {
    this.#confirming ??= (async () => {
      const doubt = this.#doubt;
      await this.#prolong(node);
      if (this.#doubt === doubt) this.#doubt = undefined;
    })().finally(() => {
      this.#confirming = undefined;
    });
    return this.#confirming;
  }

  async release(): Promise<void> {
    this.#released = true;
    const lease = await this.#lease?.catch(() => undefined);
    clearInterval(this.#renewal);
    if (!lease) return;
    // The lease may have minted no id. Then an earlier owner may have minted up to its beginning.
    const mintedUntil = Math.max(lease.fromMs, timeOfId(this.#lastId));
    await this.#db.query(RELEASE, [lease.node, this.#owner, mintedUntil]).catch(() => {});
  }

  async #acquire(): Promise<Lease> {
    const lease = await poll(() => this.#tryAcquire(), {
      everyMs: ACQUIRE_POLL_MS,
      timeoutMs: ACQUIRE_TIMEOUT_MS,
    });
    if (lease) return lease;
    this.#failed('exhausted');
    await this.#checkFree();
    throw new FeedctlError('NODE_NUMBERS_EXHAUSTED', 'every node number is leased: no id can be minted');
  }

  /** Throws CLOCK_BEHIND if numbers are free, but the clock is behind what their owners may have minted. */
  async #checkFree(): Promise<void> {
    const { rows } = await this.#db.query<{ behind_ms: number | null }>(
      `select min(reserved_until_ms) - ${DATABASE_NOW} as behind_ms
       from node_leases where expires_at < clock_timestamp()`,
    );
    const behindMs = rows[0]?.behind_ms ?? 0;
    if (behindMs > MAX_BEHIND_MS) throw clockBehind(behindMs);
  }

  async #tryAcquire(): Promise<Lease | undefined> {
    const { rows } = await this.#clock.measure(
      () => this.#db.query<{ node: number; from_ms: number; now_ms: number }>(TAKE, [this.#owner, LEASE_MS]),
      (taken) => taken.rows[0]?.now_ms,
    );
    const row = rows[0];
    if (!row) return undefined;
    this.#untilMs = row.from_ms + LEASE_MS;
    const lease: NodeLease = { node: row.node, fromMs: row.from_ms + 1, untilMs: () => this.#untilMs };
    this.#renewal = setInterval(() => void this.#renew(row.node), LEASE_MS / 3);
    this.#renewal.unref();
    this.#mint = new IdMint(lease, () => this.#clock.now());
    return { mint: this.#mint, node: row.node, fromMs: row.from_ms };
  }

  async #renew(node: number): Promise<void> {
    try {
      await this.#prolong(node);
    } catch {
      // The lease stays valid until its end. No id is minted after that.
      this.#failed('renewal');
    }
  }

  /** Prolongs the lease, or drops it if another process has taken over the number. */
  async #prolong(node: number): Promise<void> {
    const values = [node, this.#owner, LEASE_MS];
    const { rows } = await this.#clock.measure(
      () => this.#db.query<{ reserved_until_ms: number; now_ms: number }>(RENEW, values),
      (renewed) => renewed.rows[0]?.now_ms,
    );
    if (rows[0]) {
      this.#untilMs = rows[0].reserved_until_ms;
    } else {
      this.#failed('lost');
      this.#drop();
    }
  }

  #drop(): void {
    clearInterval(this.#renewal);
    this.#lease = undefined;
    this.#mint = undefined;
  }

  #failed(reason: (typeof FAILURES)[number], by = 1): void {
    this.#metrics?.count('feedctl_node_lease_failures_total', by, { reason });
  }
}
