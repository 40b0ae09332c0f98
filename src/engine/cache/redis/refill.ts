import { randomBytes } from 'node:crypto';
import type { BulkheadPolicy } from 'cockatiel';
import { packIds } from '../../model/messages.ts';
import { poll } from '../../util/poll.ts';
import type { CachedFeed, LoadedFeed } from '../cache.ts';
import { packFeed, packRing, slotOfId } from './format.ts';
import { type Kind, keyOf, SECONDS_TO_LIVE, slotBitmapKey } from './keys.ts';
import { ignoreCacheError, type RedisState, type State } from './state.ts';

/** Interval and timeout of waiting for the refill of another process. */
const POLL_MS = 20;
const POLL_TIMEOUT_MS = 200;

/** The right to fill a feed, in the state of the cache at that moment. */
interface Lease {
  readonly now: State;
  /** The reader's own ring is leased too. */
  readonly withRing: boolean;
}

type Turn = { readonly lease: Lease } | { readonly feed: CachedFeed } | 'unavailable';

interface Parts {
  readonly state: RedisState;
  readonly counts: { refills: number; refused: number };
  /** Bounds the loads of this process. */
  readonly loads: BulkheadPolicy;
  readonly get: (userId: number) => Promise<CachedFeed | undefined>;
}

/**
 * Fills the cache from the store: one load for each feed, in this process and among all processes.
 */
export class Refills {
  readonly #parts: Parts;
  readonly #running = new Map<number, Promise<CachedFeed>>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Loads a feed and keeps it. Callers for the same user share one load. */
  run(userId: number, load: () => Promise<LoadedFeed>): Promise<CachedFeed> {
    const shared = this.#running.get(userId);
    if (shared) return shared;
    const result = this.#parts.loads
      .execute(() => this.#refill(userId, load))
      .finally(() => {
        if (this.#running.get(userId) === result) this.#running.delete(userId);
      });
    this.#running.set(userId, result);
    return result;
  }

  /** The next callers for these users do not share a load that has begun. */
  forget(userIds: readonly number[]): void {
    for (const userId of userIds) this.#running.delete(userId);
  }

  /** Loads under a lease where it gets one. Waits a moment for a refill of another process. */
  async #refill(userId: number, load: () => Promise<LoadedFeed>): Promise<CachedFeed> {
    const token = randomBytes(8);
    const turn = await poll(() => this.#takeTurn(userId, token), {
      everyMs: POLL_MS,
      timeoutMs: POLL_TIMEOUT_MS,
    });
    if (typeof turn === 'object' && 'feed' in turn) return turn.feed;
    const lease = typeof turn === 'object' ? turn.lease : undefined;
    this.#parts.counts.refills += 1;
    try {
      const feed = await load();
      await this.#endLease(userId, token, lease, feed);
      return feed;
    } catch (error) {
      await this.#endLease(userId, token, lease);
      throw error;
    }
  }

  /** Returns undefined while another process has the lease. */
  async #takeTurn(userId: number, token: Buffer): Promise<Turn | undefined> {
    const { state, get } = this.#parts;
    const turn = await state
      .run(async (now) => {
        const [feed, ring] = await Promise.all([
          takeLeases(state, now, 'h', [userId], token),
          takeLeases(state, now, 'a', [userId], token),
        ]);
        return { granted: feed, lease: { now, withRing: ring === 'L' } };
      })
      .catch(ignoreCacheError);
    if (!turn) return 'unavailable';
    if (turn.granted === 'L') return { lease: turn.lease };
    const feed = turn.granted === 'H' ? await get(userId) : undefined;
    return feed && { feed };
  }

  /** Keeps what was loaded, or releases the lease where nothing was. */
  async #endLease(userId: number, token: Buffer, lease?: Lease, feed?: LoadedFeed): Promise<void> {
    const { state, counts } = this.#parts;
    let kept: unknown = 0;
    if (lease) {
      const values = [keyOf(lease.now, 'h', userId), feed ? packFeed(feed) : ''];
      if (lease.withRing) values.push(keyOf(lease.now, 'a', userId), feed ? packRing(feed.own) : '');
      kept = await state.script(lease.now, 'fill', token, SECONDS_TO_LIVE, ...values).catch(ignoreCacheError);
    }
    if (!kept) counts.refused += 1;
  }
}

/** Asks for leases. Returns one letter for each id, as `lease.lua` describes. */
export async function takeLeases(
  state: RedisState,
  now: State,
  kind: Kind,
  ids: readonly number[],
  token: Buffer,
): Promise<string> {
  const slots = Buffer.alloc(4 * ids.length);
  for (const [i, id] of ids.entries()) slots.writeUInt32BE(slotOfId(id), 4 * i);
  return String(
    await state.script(now, 'lease', now.prefix + kind, packIds(ids), token, slotBitmapKey(now, kind), slots),
  );
}
