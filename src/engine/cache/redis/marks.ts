import type { Identity } from '../../identity/identity.ts';
import { isCacheError, type RedisConnection } from './connection.ts';

/** Minimum time between two marks of the whole cluster. */
const MARK_INTERVAL_MS = 1_000;

/** The parts of a state that a mark belongs to. */
interface Marked {
  readonly runId: string;
  readonly key: string;
  readonly text: string;
  readonly markKey: string;
}

/**
 * Keeps a mark in Redis that is newer than everything that was written there: a database that lacks the mark
 * has lost commits that the cache has seen. Makes one soon after a write, at most one a second for the whole
 * cluster, and none while nothing is written.
 */
export class Marks {
  readonly #connection: RedisConnection;
  readonly #identity: Identity;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  /** The state of the last write that may not be covered. */
  #uncovered: Marked | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(connection: RedisConnection, identity: Identity) {
    this.#connection = connection;
    this.#identity = identity;
  }

  /** Called after each write. */
  wrote(state: Marked): void {
    this.#uncovered = state;
    this.#runIn(Math.max(0, this.#askedAt + MARK_INTERVAL_MS - performance.now()));
  }

  /** Covers the last writes of this process, as the database may be put back while it is down. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
    const state = this.#uncovered;
    if (state) await this.#cover(state, 0).catch(() => {});
  }

  #runIn(ms: number): void {
    if (this.#closed || this.#timer || this.#running) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#running = this.#run().finally(() => {
        this.#running = undefined;
        if (this.#uncovered) this.#runIn(MARK_INTERVAL_MS);
      });
    }, ms).unref();
  }

  async #run(): Promise<void> {
    const state = this.#uncovered;
    if (!state) return;
    this.#askedAt = performance.now();
    try {
      await this.#cover(state, MARK_INTERVAL_MS);
    } catch (error) {
      // Another state, or a Redis that is down: its next write begins again.
      if (isCacheError(error) && this.#uncovered === state) this.#uncovered = undefined;
    }
  }

  /** Makes a mark, unless one covers all writes or another process has just made one. */
  async #cover(state: Marked, intervalMs: number): Promise<void> {
    const run = (name: 'claim' | 'cover', ...values: (string | number)[]) =>
      this.#connection.script(name, state.runId, state.key, state.text, state.markKey, ...values);
    const claim = (await run('claim', intervalMs)) as [waitMs: number, writes: Buffer] | null;
    if (claim && claim[0] > 0) return;
    if (this.#uncovered === state) this.#uncovered = undefined;
    if (!claim) return;
    try {
      await run('cover', await this.#identity.freshMark(), String(claim[1]));
    } catch (error) {
      this.#uncovered ??= state;
      throw error;
    }
  }
}
