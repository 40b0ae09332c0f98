import { randomUUID } from 'node:crypto';
import { onTestFinished } from 'vitest';
import type { FeedCache } from '../../src/engine/cache/cache.ts';
import type { FeedChanges } from '../../src/engine/cache/changes.ts';
import { openMemoryCache } from '../../src/engine/cache/memory/cache.ts';
import { Database, type Listener } from '../../src/engine/database/database.ts';
import { dropFeedPartitionsBefore, feedPartitions } from '../../src/engine/database/feedPartitions.ts';
import { openPresence, type Presence, registerGateway } from '../../src/engine/live/presence.ts';
import { type IdSource, openIdSource } from '../../src/engine/store/idLeases.ts';
import { freshDatabase } from '../support/cluster.ts';
import { wholeFeedPartition } from '../support/feedPartitions.ts';
import { openSteppedRedis } from './steppedRedis.ts';

/**
 * A database, with the connections to it, in which histories with separate users run one after
 * another. Push states and the sweeper belong to a database, so concurrent histories need a lane each.
 */
export interface Lane {
  readonly db: Database;
  readonly ids: IdSource;
  readonly presence: Presence;
  readonly cache: FeedCache;
  /** Receiver of changes. */
  readonly changes: FeedChanges;
  readonly gatewayId: string;
  /** Resolves when the cache has received all changes committed before. */
  heard(): Promise<void>;
  /**
   * Removes the partitions of earlier histories, and sometimes their rows: the comparison at the end of each
   * one reads whole tables.
   */
  tidy(): Promise<void>;
  /** Number of sessions that wait for a lock. */
  lockWaiters(): Promise<number>;
}

const TIDY_EVERY = 50;

class HeardDatabase extends Database {
  readonly #listeners: Listener[] = [];

  override async listen(...args: Parameters<Database['listen']>): Promise<Listener> {
    const listener = await super.listen(...args);
    this.#listeners.push(listener);
    return listener;
  }

  async heard(): Promise<void> {
    for (const listener of this.#listeners) await listener.barrier();
  }
}

/** The cache is in the Redis at `redisUrl`, or in memory without one. */
export async function openLane(redisUrl?: string): Promise<Lane> {
  const { url } = await freshDatabase();
  const db = new HeardDatabase(url, {
    maxSessions: 24,
    // Durability is not needed, and deadlocks should end soon.
    sessionSettings: { synchronous_commit: 'off', deadlock_timeout: '50ms' },
  });
  const watch = new Database(url, { maxSessions: 1 });
  const ids = openIdSource(db);
  const presence = await openPresence(db);
  const cache = await (redisUrl ? openSteppedRedis(redisUrl, db) : openMemoryCache(db));
  const gatewayId = randomUUID();
  await wholeFeedPartition(db);
  let histories = 0;
  await registerGateway(db, { id: gatewayId, url: 'http://gateway' });
  onTestFinished(async () => {
    await ids.release();
    await cache.close();
    await db.close();
    await watch.close();
  });
  return {
    db,
    ids,
    presence,
    cache,
    changes: cache,
    gatewayId,
    heard: () => db.heard(),
    async tidy() {
      const partitions = await feedPartitions(db);
      if (partitions.length > 2) await dropFeedPartitionsBefore(db, partitions.at(-1)!.from);
      histories += 1;
      if (histories % TIDY_EVERY !== 0) return;
      await db.query('truncate users, posts, follows, followers, feed_items, events, operations');
    },
    async lockWaiters() {
      // `wait_event` would also count a session that has its lock and has not woken up yet.
      const { rows } = await watch.query<{ count: number }>(
        `select count(*)::integer as count from pg_locks join pg_stat_activity using (pid)
         where not granted and datname = current_database()`,
      );
      return rows[0]!.count;
    },
  };
}
