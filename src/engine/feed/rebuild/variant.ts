import type { Database } from '../../database/database.ts';
import type { Session } from '../../database/types.ts';
import { lockPushStates } from '../../store/celebrities.ts';
import type { ChunkLimits } from './pace.ts';

/** Changes to some feeds, made or planned. */
export interface FeedsRebuilt {
  /** Rows of these feeds afterwards. */
  readonly items: number;
  readonly added: number;
  readonly removed: number;
  /** Users whose rows or floor changed. */
  readonly changed: readonly number[];
}

/** Rebuilds feeds. PostgreSQL and Citus need different statements and transactions. */
export interface RebuildVariant {
  readonly chunkLimits: ChunkLimits;
  /** Parts of all users that are rebuilt concurrently. */
  readonly parts: number;
  /**
   * A chunk is one transaction, which saves the progress too. Otherwise each shard of a chunk has
   * its own, and the progress is saved afterwards.
   */
  readonly atomicChunks: boolean;
  /**
   * Runs inside the caller's transaction, on Citus for users of one shard. Throws a duplicate
   * (`isDuplicate`) if other rows were inserted meanwhile. The caller then tries again with
   * `isRetry`.
   */
  rebuild(session: Session, userIds: readonly number[], isRetry: boolean): Promise<FeedsRebuilt>;
  /** Returns the result that `rebuild` would have, and changes nothing. */
  preview(db: Database, userIds: readonly number[]): Promise<FeedsRebuilt>;
}

/** Locks the push states and the users' rows. A trim or a backfill of the same feed waits. */
export async function lockFeeds(session: Session, userIds: readonly number[]): Promise<void> {
  await lockPushStates(session);
  await session.query('select 1 from users where id = any($1) order by id for update', [userIds]);
}
