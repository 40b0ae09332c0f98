import type { Queryable } from '../database/database.ts';
import { type Erasure, erasuresOf, readErasures } from '../store/erasures.ts';

/**
 * Accounts that were erased within the lifetime of a token, at one gateway. An erased id may have
 * a new owner, for whom tokens of the account before must not work. Older erasures do not matter:
 * the tokens of those accounts have expired.
 */
export class ErasedAccounts {
  readonly #db: Queryable;
  readonly #seconds: number;
  /**
   * By user: the start of the last erasure in unix milliseconds of the database, and the end of the entry
   * by the monotonic clock.
   */
  readonly #erased = new Map<number, { startedAt: number; until: number }>();
  #mark = 0;

  constructor(db: Queryable, tokenSeconds: number) {
    this.#db = db;
    this.#seconds = tokenSeconds;
  }

  /** Reads the erasures since the last call. */
  async refresh(): Promise<void> {
    const { erasures, mark } = await readErasures(this.#db, this.#seconds, this.#mark);
    this.#mark = mark;
    this.#keep(erasures);
    const now = performance.now();
    for (const [userId, { until }] of this.#erased) if (until < now) this.#erased.delete(userId);
  }

  /** Reads the erasures of one user, which was announced. */
  async refreshUser(userId: number): Promise<void> {
    this.#keep(await erasuresOf(this.#db, this.#seconds, userId));
  }

  /**
   * Returns whether a token is of an erased account. `born`: creation of the token's account by the
   * clock of the database, which dates erasures too. Tokens of older versions have none.
   */
  includes(userId: number, born: number | undefined): boolean {
    const erased = this.#erased.get(userId);
    return erased !== undefined && (born === undefined || born <= erased.startedAt);
  }

  #keep(erasures: readonly Erasure[]): void {
    const until = performance.now() + this.#seconds * 1_000;
    for (const { userId, startedAt } of erasures) {
      const before = this.#erased.get(userId)?.startedAt ?? 0;
      this.#erased.set(userId, { startedAt: Math.max(before, startedAt.getTime()), until });
    }
  }
}
