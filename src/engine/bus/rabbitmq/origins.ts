import type { Database } from '../../database/database.ts';
import type { Identity } from '../../identity/identity.ts';
import { FeedctlError } from '../../model/errors.ts';
import { readAdopted } from '../../store/adopted.ts';
import { ANY_LINEAGE } from '../bus.ts';

/** Header: cluster, lineage and mark of the publisher, separated by dots. */
export const ORIGIN = 'feedctl-origin';
/** Known origins that are kept. A cluster makes one a second at most. */
const MAX_KNOWN = 10_000;

/**
 * Where a message comes from. `lineage` is undefined for a message of a version that sent no origin, which
 * counts as one of the present lineage.
 */
export interface Origin {
  readonly lineage: string | undefined;
  /** The database does not know where it was made: its rows are checked. */
  readonly unsure?: true;
}

/** What a consumer does with a message: deliver it, drop it, or leave it in its queue. */
export type Verdict = Origin | 'drop' | FeedctlError;

/** A message without an origin. */
const OF_OLDER_VERSION: Origin = { lineage: undefined };

/**
 * Judges where messages come from. Comparing a string is enough for most of them: the database is asked once
 * for each new origin, so about once a second.
 */
export class Origins {
  readonly #db: Database;
  readonly #identity: Identity;
  readonly #known = new Map<string, Origin>();
  /** Questions to the database by origin: the readers of all queues meet a new one at the same time. */
  readonly #asking = new Map<string, Promise<boolean>>();

  constructor(db: Database, identity: Identity) {
    this.#db = db;
    this.#identity = identity;
  }

  /**
   * Returns the header of a message that is published now. `lineage`: the history that the message was made
   * from. It is read first, so that a mark is never newer than the lineage says.
   */
  async present(lineage: string = this.#identity.lineage): Promise<string> {
    const mark = await this.#identity.mark();
    const origin = `${this.#identity.cluster}.${lineage}.${mark}`;
    this.#keep(origin, lineage === ANY_LINEAGE ? { lineage, unsure: true } : { lineage });
    return origin;
  }

  /** Returns the verdict on an origin that was met before. undefined: ask `judge`. */
  known(origin: string | undefined): Origin | undefined {
    return origin === undefined ? OF_OLDER_VERSION : this.#known.get(origin);
  }

  /** A message of an earlier history may be about posts and follows that the database has lost. */
  isEarlier({ lineage, unsure }: Origin): boolean {
    return unsure === true || (lineage !== undefined && lineage !== this.#identity.lineage);
  }

  /** Asks the database. `publishedAtMs`: an operator may have adopted what was published before. */
  async judge(origin: string, publishedAtMs: number): Promise<Verdict> {
    // Another program may have sent a header of another type.
    const [cluster, lineage, mark] = String(origin).split('.');
    if (cluster !== this.#identity.cluster || !lineage || !mark) {
      const { clusters } = await readAdopted(this.#db);
      return clusters.includes(cluster ?? '') ? 'drop' : this.#ofOtherCluster(cluster ?? '');
    }
    if (lineage === ANY_LINEAGE) return this.#keep(origin, { lineage, unsure: true });
    const asking = this.#asking.get(origin) ?? this.#isKnown(lineage, mark);
    this.#asking.set(origin, asking);
    const isKnown = await asking.finally(() => this.#asking.delete(origin));
    if (isKnown) return this.#keep(origin, { lineage });
    const { atMs } = await readAdopted(this.#db);
    return publishedAtMs < atMs ? { lineage, unsure: true } : this.#ofOtherLineage(lineage, mark);
  }

  async #isKnown(lineage: string, mark: string): Promise<boolean> {
    // Another process may have opened a new lineage.
    if (lineage !== this.#identity.lineage) await this.#identity.refresh();
    return lineage === this.#identity.lineage
      ? this.#identity.hasMark(mark)
      : this.#identity.hasLineage(lineage);
  }

  #keep(origin: string, verdict: Origin): Origin {
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(origin, verdict);
    return verdict;
  }

  #ofOtherCluster(other: string): FeedctlError {
    return new FeedctlError(
      'BROKER_OTHER_CLUSTER',
      `a message is of the cluster ${other}; this process works for the cluster ${this.#identity.cluster}`,
    );
  }

  #ofOtherLineage(lineage: string, mark: string): FeedctlError {
    const { cluster, lineage: present } = this.#identity;
    const what = lineage === present ? `mark ${mark}` : `lineage ${lineage}`;
    return new FeedctlError(
      'BROKER_OTHER_LINEAGE',
      `a message has the ${what}, which the database of the cluster ${cluster} does not know: ` +
        `it went back, or a copy of it uses this broker too (present lineage: ${present})`,
    );
  }
}
