import type { Queryable } from '../database/database.ts';
import { Coalesced } from '../util/coalesce.ts';
import { announce } from './presence.ts';

/**
 * Announces which users are online at one gateway. Changes during a statement share the next one:
 * thousands of sockets that open at the same time cost a few statements.
 */
export class PresenceAnnouncer {
  readonly #db: Queryable;
  readonly #gatewayId: string;
  /** Returns true if the user should be announced. */
  readonly #wanted: (userId: number) => boolean;
  readonly #announced = new Set<number>();
  /** Users of a failed statement: it may have been committed. */
  readonly #uncertain = new Set<number>();
  readonly #flushes = new Coalesced(() => this.#flush());
  #changed = new Set<number>();
  #closed = false;

  constructor(db: Queryable, gatewayId: string, wanted: (userId: number) => boolean) {
    this.#db = db;
    this.#gatewayId = gatewayId;
    this.#wanted = wanted;
  }

  /** Number of announced users; undefined while changes wait. */
  get size(): number | undefined {
    return this.#flushes.waiting || this.#changed.size > 0 ? undefined : this.#announced.size;
  }

  /** Resolves when the state of these users, online or not, is committed. */
  update(userIds: Iterable<number>): Promise<void> {
    for (const userId of userIds) this.#changed.add(userId);
    return this.#flushes.run();
  }

  /** Announces nothing more. Resolves when no statement is running. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#flushes.idle();
  }

  /** Repeats changes that failed before. */
  async retry(): Promise<void> {
    if (this.#changed.size > 0) await this.update([]);
  }

  async #flush(): Promise<void> {
    if (this.#closed) return;
    const changed = this.#changed;
    this.#changed = new Set();
    const arrived: number[] = [];
    const left: number[] = [];
    for (const userId of changed) {
      const wanted = this.#wanted(userId);
      if (wanted !== this.#announced.has(userId) || this.#uncertain.has(userId))
        (wanted ? arrived : left).push(userId);
    }
    if (arrived.length + left.length === 0) return;
    try {
      await announce(this.#db, this.#gatewayId, { arrived, left });
    } catch (error) {
      for (const userId of [...arrived, ...left]) {
        this.#changed.add(userId);
        this.#uncertain.add(userId);
      }
      throw error;
    }
    for (const userId of [...arrived, ...left]) this.#uncertain.delete(userId);
    for (const userId of arrived) this.#announced.add(userId);
    for (const userId of left) this.#announced.delete(userId);
  }
}
