import { randomBytes } from 'node:crypto';
import type { Database } from '../database/database.ts';
import type { Queryable } from '../database/types.ts';
import { withoutPassword } from '../database/url.ts';
import { throwReadOnly } from '../database/usable.ts';
import { FeedctlError } from '../model/errors.ts';
import { type Log, silentLog } from '../telemetry/log.ts';
import { Coalesced } from '../util/coalesce.ts';
import { CONFIRM, CREATE, EARLIER, HISTORY, MARK, RENAME, RENEW } from './sql.ts';

/** Processes that listen here learn of a new lineage. Payload: the lineage. */
export const LINEAGE_CHANNEL = 'feedctl_lineage';
/** A mark outside of the database is at most this much older than the change that it stands for. */
const MARK_AGE_MS = 1_000;

interface Confirmed {
  readonly standby: boolean;
  readonly readOnly: boolean;
  readonly system: string;
  readonly timeline: number;
  readonly instance: string;
  readonly cluster: string | null;
  readonly lineage: string | null;
  readonly knownSystem: string | null;
  readonly knownTimeline: number | null;
  readonly keyPrefix: string | null;
  /** Why the lineage began. */
  readonly reason: string | null;
  readonly hasMark: boolean;
  readonly hasLineage: boolean;
}

interface Mark {
  readonly ordinal: number;
  readonly nonce: string;
}

interface Present {
  readonly cluster: string;
  readonly lineage: string;
  readonly keyPrefix: string;
  readonly instance: string;
}

/** One history of the database. `reason`: why it began. */
export interface Lineage {
  readonly lineage: string;
  readonly parent: string | null;
  readonly reason: string;
  readonly openedAt: Date;
}

/** Returns a random id of 48 bits: in a cluster's life its lineages are few. */
const randomId = (): string => randomBytes(6).toString('hex');

/**
 * Who the cluster of a database is, and which history of it the database has. A lineage is one history: it
 * ends when the database may have lost commits, by a failover or a restore. What was derived from the
 * database under another lineage is not to be trusted: cached feeds, messages of the bus.
 *
 * Marks find a database that went back without a new timeline. A mark is a row that is committed before
 * its name is written outside. A database that lacks such a row has lost it, and what followed.
 */
export class Identity {
  readonly #db: Database;
  readonly #log: Log;
  readonly #onLineage = new Set<() => void>();
  /** Pools of this process, which live as long as it does. */
  readonly #guarded = new Set<Database>();
  readonly #marking = new Coalesced(() => this.#makeMark(MARK_AGE_MS));
  readonly #freshMarking = new Coalesced(() => this.#makeMark(0));
  #present: Present;
  #mark: Mark | undefined;
  /** Why the database was refused last. */
  #refused: string | undefined;
  #markedAt = Number.NEGATIVE_INFINITY;

  private constructor(db: Database, log: Log, present: Present) {
    this.#db = db;
    this.#log = log;
    this.#present = present;
  }

  /**
   * Reads the identity, which the first process writes, and confirms it on each new session of `db` from
   * then on. Throws DATABASE_COPIED, DATABASE_READ_ONLY (only to write the first identity).
   */
  static async open(db: Database, log: Log = silentLog): Promise<Identity> {
    let found = await look(db);
    if (found.cluster === null) {
      if (found.standby || found.readOnly) throwReadOnly(found, db.url);
      await db.query(CREATE, [randomId(), randomId()]);
      found = await look(db);
    }
    const identity = new Identity(db, log, present(found));
    await identity.#learn(db, found, db.url);
    identity.guard(db);
    return identity;
  }

  /** Confirms each session of `db` before its first use, and all again when one meets another cluster. */
  guard(db: Database): void {
    this.#guarded.add(db);
    db.confirmSessions((session) => this.confirm(session, db.url));
  }

  /** Id of the cluster: 12 hexadecimal digits. */
  get cluster(): string {
    return this.#present.cluster;
  }

  /** Id of the present lineage: 12 hexadecimal digits. */
  get lineage(): string {
    return this.#present.lineage;
  }

  /** Name of this lineage in the keys of Redis. */
  get keyPrefix(): string {
    return this.#present.keyPrefix;
  }

  /** Start of the database server, in unix microseconds: it tells a running copy from the original. */
  get instance(): string {
    return this.#present.instance;
  }

  /** Calls `listener` after each change of the lineage or of the instance. Returns how to end that. */
  watch(listener: () => void): () => void {
    this.#onLineage.add(listener);
    return () => this.#onLineage.delete(listener);
  }

  /**
   * Confirms on a new session that it leads to the same database with the same history, and can write.
   * Opens a new lineage if the timeline is another one, or if the database lacks the last mark.
   * Throws DATABASE_READ_ONLY, DATABASE_OTHER_CLUSTER or DATABASE_COPIED.
   */
  async confirm(session: Queryable, url: string): Promise<void> {
    const found = await this.#look(session);
    if (found.standby || found.readOnly) throwReadOnly(found, url);
    await this.#learn(session, found, url);
  }

  /** Reads the identity again, after a notification. */
  async refresh(): Promise<void> {
    await this.#learn(this.#db, await this.#look(this.#db), this.#db.url);
  }

  /** Returns a mark, at most a second old, that the database has. */
  async mark(): Promise<string> {
    const known = performance.now() - this.#markedAt <= MARK_AGE_MS ? this.#mark : undefined;
    return markText(known ?? (await this.#marking.run()));
  }

  /** Returns a mark that is made after this call. */
  async freshMark(): Promise<string> {
    return markText(await this.#freshMarking.run());
  }

  /** Returns whether the database has a mark that another process may have made. */
  async hasMark(text: string): Promise<boolean> {
    const mark = parseMark(text);
    return mark !== undefined && (await look(this.#db, mark)).hasMark;
  }

  /** Returns whether a lineage is the present one, or an earlier one of this database. */
  async hasLineage(lineage: string): Promise<boolean> {
    return lineage === this.lineage || (await look(this.#db, undefined, lineage)).hasLineage;
  }

  /** Opens a new lineage, unless another process has just done so. */
  renew(reason: string): Promise<void> {
    return this.#replace(this.#db, this.lineage, reason);
  }

  /** Compares the database with what is known here, which other sessions may change meanwhile. */
  async #look(session: Queryable): Promise<Confirmed> {
    for (;;) {
      const { lineage } = this;
      const found = await look(session, this.#mark, lineage);
      if (lineage === this.lineage) return found;
    }
  }

  #adopt(next: Present, reason: string | null): void {
    const { lineage, instance } = this.#present;
    this.#present = next;
    if (next.lineage !== lineage) {
      // The new history does not have it.
      this.#mark = undefined;
      this.#markedAt = Number.NEGATIVE_INFINITY;
      const fields = { cluster: next.cluster, lineage: next.lineage, before: lineage, reason };
      this.#log.warn(fields, 'the database has another history: caches start empty');
    }
    if (next.lineage !== lineage || next.instance !== instance)
      for (const listener of this.#onLineage) listener();
  }

  async #learn(session: Queryable, found: Confirmed, url: string): Promise<void> {
    const next = present(found);
    const at = withoutPassword(url);
    if (next.cluster !== this.cluster) this.#refuse(next.cluster, at);
    this.#refused = undefined;
    if (found.system !== found.knownSystem)
      throw new FeedctlError(
        'DATABASE_COPIED',
        `the database ${at} is a copy: cluster ${next.cluster} has its database on another server`,
      );
    const sameHistory = next.lineage === this.lineage;
    if (!found.standby && found.timeline !== found.knownTimeline)
      await this.#replace(session, next.lineage, `timeline ${found.timeline} after ${found.knownTimeline}`);
    else if (sameHistory ? !found.hasMark : !found.hasLineage)
      await this.#replace(session, next.lineage, 'the database went back to an earlier state');
    else this.#adopt(next, found.reason);
  }

  /** An operator may have renamed the cluster of this database: then the other sessions are of it too. */
  #refuse(other: string, at: string): never {
    const error = new FeedctlError(
      'DATABASE_OTHER_CLUSTER',
      `the database ${at} is of the cluster ${other}; this process works for ${this.cluster}`,
    );
    if (this.#refused !== error.message) {
      const { code, message: reason } = error;
      this.#log.error({ code, cluster: this.cluster, reason }, 'the database is refused');
      for (const db of this.#guarded) db.confirmAgain();
    }
    this.#refused = error.message;
    throw error;
  }

  async #replace(session: Queryable, lineage: string, reason: string): Promise<void> {
    await renewLineage(session, lineage, reason);
    this.#adopt(present(await look(session)), reason);
  }

  async #makeMark(maxAgeMs: number): Promise<Mark> {
    const askedAt = performance.now();
    if (this.#mark && askedAt - this.#markedAt <= maxAgeMs) return this.#mark;
    const { lineage } = this;
    const { rows } = await this.#db.query<Mark>(MARK, [randomId(), maxAgeMs]);
    if (lineage !== this.lineage) return this.#makeMark(maxAgeMs);
    this.#mark = rows[0]!;
    this.#markedAt = askedAt;
    return this.#mark;
  }
}

async function look(db: Queryable, mark?: Mark, lineage?: string): Promise<Confirmed> {
  const { rows } = await db.query<Confirmed & object>(CONFIRM, [
    mark?.ordinal ?? null,
    mark?.nonce ?? null,
    lineage ?? null,
  ]);
  return rows[0]!;
}

function present({ cluster, lineage, keyPrefix, instance }: Confirmed): Present {
  if (cluster === null || lineage === null || keyPrefix === null)
    throw new FeedctlError('SCHEMA_MISSING', 'the database has lost the identity of its cluster');
  return { cluster, lineage, keyPrefix, instance };
}

const markText = ({ ordinal, nonce }: Mark): string => `${ordinal}-${nonce}`;

function parseMark(text: string): Mark | undefined {
  const [, ordinal, nonce] = /^(\d{1,15})-([0-9a-f]{12})$/.exec(text) ?? [];
  return nonce === undefined ? undefined : { ordinal: Number(ordinal), nonce };
}

/** What a database says about itself. */
export interface DatabaseIdentity {
  /** Id of the cluster. Null: no process has opened this database yet. */
  readonly cluster: string | null;
  readonly lineage: string | null;
  /** This database is a copy: that of the cluster is on another server. */
  readonly copied: boolean;
}

/** Reads the identity of a database as it is. Changes nothing. */
export async function readDatabaseIdentity(db: Queryable): Promise<DatabaseIdentity> {
  const { cluster, lineage, system, knownSystem } = await look(db);
  return { cluster, lineage, copied: knownSystem !== null && system !== knownSystem };
}

/** Returns the histories of the database, the oldest first. */
export async function readLineages(db: Queryable): Promise<Lineage[]> {
  return (await db.query<Lineage & object>(HISTORY)).rows;
}

/** Returns the key prefixes of earlier lineages. */
export async function readEarlierPrefixes(db: Queryable): Promise<string[]> {
  return (await db.query<{ prefix: string }>(EARLIER)).rows.map(({ prefix }) => prefix);
}

/** Makes a copied database a cluster that is not the original: another id, and no history. */
export async function renameCluster(db: Queryable): Promise<string> {
  const cluster = randomId();
  await db.query(RENAME, [cluster, randomId(), LINEAGE_CHANNEL]);
  return cluster;
}

/**
 * Makes this database the cluster's, on whichever server it is now, with a new lineage. For a database that
 * was moved or restored.
 */
export async function adoptDatabase(db: Queryable): Promise<void> {
  await renewLineage(db, present(await look(db)).lineage, 'an operator has adopted the database');
}

const renewLineage = (db: Queryable, lineage: string, reason: string) =>
  db.query(RENEW, [randomId(), lineage, reason, LINEAGE_CHANNEL]);
