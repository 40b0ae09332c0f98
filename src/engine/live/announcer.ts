import type { Queryable } from '../database/database.ts';
import { Coalesced } from '../util/coalesce.ts';
import { announce } from './presence.ts';

/**
 * Who is announced as online at one gateway. Changes that come while a statement is under way go into the next one,
 * all together: thousands of sockets that come at once cost a few statements.
 */
export class PresenceAnnouncer {
  readonly #db: Queryable;
  readonly #gatewayId: string;
  /** Whether the user should be online. */
  readonly #wanted: (userId: number) => boolean;
  readonly #announced = new Set<number>();
  /** What was asked for and not answered: it may have been done. */
  readonly #uncertain = new Set<number>();
  readonly #flushes = new Coalesced(() => this.#flush());
  #changed = new Set<number>();
  #closed = false;

  constructor(db: Queryable, gatewayId: string, wanted: (userId: number) => boolean) {
    this.#db = db;
    this.#gatewayId = gatewayId;
    this.#wanted = wanted;
  }

  /** Users who are announced; undefined while that changes. */
  get size(): number | undefined {
    return this.#flushes.waiting || this.#changed.size > 0 ? undefined : this.#announced.size;
  }

  /** Resolves when it is committed that these users are online, or not, as it then is. */
  update(userIds: Iterable<number>): Promise<void> {
    for (const userId of userIds) this.#changed.add(userId);
    return this.#flushes.run();
  }

  /** Announces nothing more; resolves when nothing is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#flushes.idle();
  }

  /** What failed before is tried again. */
  async retry(): Promise<void> {
    if (this.#changed.size > 0) await this.update([]);
  }

  async #flush(): Promise<void> {
    if (this.#closed) return;
    const changed = this.#changed;
    this.#changed = new Set();
    const came: number[] = [];
    const went: number[] = [];
    for (const userId of changed) {
      const wanted = this.#wanted(userId);
      if (wanted !== this.#announced.has(userId) || this.#uncertain.has(userId))
        (wanted ? came : went).push(userId);
    }
    if (came.length + went.length === 0) return;
    try {
      await announce(this.#db, this.#gatewayId, { came, went });
    } catch (error) {
      for (const userId of [...came, ...went]) {
        this.#changed.add(userId);
        this.#uncertain.add(userId);
      }
      throw error;
    }
    for (const userId of [...came, ...went]) this.#uncertain.delete(userId);
    for (const userId of came) this.#announced.add(userId);
    for (const userId of went) this.#announced.delete(userId);
  }
}
