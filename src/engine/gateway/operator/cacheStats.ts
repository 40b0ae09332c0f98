import type { FeedCache } from '../../cache/cache.ts';
import { type FeedChanges, markStale } from '../../cache/changes.ts';
import { everySlot } from '../../cache/invalidation.ts';
import type { Database } from '../../database/database.ts';
import { readCacheCounters } from '../../stats/table.ts';
import { HEARTBEAT_TIMEOUT_MS, listGateways } from '../../store/processes.ts';

/** Counts of one gateway since it started. */
export interface CacheCounts {
  readonly gatewayId: string;
  readonly url: string;
  /** Reads of feeds that were cached, and that were not. */
  readonly hits: number;
  readonly misses: number;
  /** Feeds read from the database for the cache. */
  readonly refills: number;
  /** Changes that could not be sent to the cache. */
  readonly failures: number;
}

export interface CacheReport {
  readonly kind: string;
  readonly ready: boolean;
  readonly detail: string;
  /** Share of hits in the reads at all gateways; null without reads. */
  readonly hitRate: number | null;
  readonly gateways: readonly CacheCounts[];
  /** Gateways without a report of the last 15 s. */
  readonly unreachable: readonly { gatewayId: string; url: string; reason: string }[];
}

/** Describes the cache as the gateways, which read it, last reported it: about a second ago. */
export async function cacheStats(db: Database, sharedCache: FeedCache | undefined): Promise<CacheReport> {
  const [rows, counters] = await Promise.all([listGateways(db), readCacheCounters(db)]);
  const gateways: CacheCounts[] = [];
  const unreachable: CacheReport['unreachable'][number][] = [];
  for (const { id: gatewayId, url } of rows) {
    const counts = counters.get(gatewayId);
    if (counts) {
      const { hits, misses, refills = 0, failures = 0 } = counts;
      gateways.push({ gatewayId, url, hits, misses, refills, failures });
    } else {
      const reason = `the gateway at ${url} has reported no statistics for ${HEARTBEAT_TIMEOUT_MS / 1_000} s`;
      unreachable.push({ gatewayId, url, reason });
    }
  }
  const sum = (of: (counts: CacheCounts) => number) => gateways.reduce((total, one) => total + of(one), 0);
  const reads = sum(({ hits, misses }) => hits + misses);
  const { ready, detail } = sharedCache?.health() ?? { ready: true, detail: 'in the memory of each gateway' };
  return {
    kind: sharedCache?.kind ?? 'memory',
    ready,
    detail,
    hitRate: reads > 0 ? sum(({ hits }) => hits) / reads : null,
    gateways,
    unreachable,
  };
}

/**
 * Invalidates a cached feed at all gateways; `userId` undefined: all feeds. The next read of each
 * feed takes as long as the database needs.
 */
export async function clearCache(
  context: { db: Database; changes: FeedChanges },
  userId: number | undefined,
): Promise<void> {
  if (userId !== undefined) return markStale(context, [userId]);
  const { db, changes } = context;
  await db.transaction(async (session) => {
    await changes.changing(session, everySlot());
    await changes.resetting(session);
  });
}
