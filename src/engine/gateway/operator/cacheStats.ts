import type { FeedCache } from '../../cache/cache.ts';
import { type FeedChanges, markStale } from '../../cache/changes.ts';
import { everySlot } from '../../cache/invalidation.ts';
import type { Database } from '../../database/database.ts';
import { messageOf } from '../../model/errors.ts';
import { listGateways } from '../../store/processes.ts';

const TIMEOUT_MS = 5_000;

/** Of one gateway since it started. */
export interface CacheCounts {
  readonly gatewayId: string;
  readonly url: string;
  /** Feeds that were held when a reader asked, and that were not. */
  readonly hits: number;
  readonly misses: number;
  /** Feeds read from the database for the cache. */
  readonly refills: number;
  /** Changes that the cache could not be told of. */
  readonly failures: number;
}

export interface CacheReport {
  readonly kind: string;
  readonly ready: boolean;
  readonly detail: string;
  /** Of hits and misses of all gateways; null where nobody has asked. */
  readonly hitRate: number | null;
  readonly gateways: readonly CacheCounts[];
  readonly unreachable: readonly { gatewayId: string; url: string; reason: string }[];
}

/** How the cache is, from the metrics of the gateways: they read it. */
export async function cacheStats(db: Database, sharedCache: FeedCache | undefined): Promise<CacheReport> {
  const rows = await listGateways(db);
  const answers = await Promise.allSettled(rows.map(({ url }) => readMetrics(url)));
  const gateways: CacheCounts[] = [];
  const unreachable: CacheReport['unreachable'][number][] = [];
  for (const [n, answer] of answers.entries()) {
    const { id: gatewayId, url } = rows[n]!;
    if (answer.status === 'fulfilled') gateways.push({ gatewayId, url, ...countsIn(answer.value) });
    else unreachable.push({ gatewayId, url, reason: `the gateway at ${url}: ${messageOf(answer.reason)}` });
  }
  const sum = (of: (counts: CacheCounts) => number) => gateways.reduce((total, one) => total + of(one), 0);
  const asked = sum(({ hits, misses }) => hits + misses);
  const { ready, detail } = sharedCache?.health() ?? { ready: true, detail: 'in the memory of each gateway' };
  return {
    kind: sharedCache?.kind ?? 'memory',
    ready,
    detail,
    hitRate: asked > 0 ? sum(({ hits }) => hits) / asked : null,
    gateways,
    unreachable,
  };
}

async function readMetrics(url: string): Promise<string> {
  const response = await fetch(new URL('/metrics', url), { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`it answers ${response.status}`);
  return response.text();
}

function countsIn(text: string): Pick<CacheCounts, 'hits' | 'misses' | 'refills' | 'failures'> {
  const of = (name: string) =>
    Number(new RegExp(`^feedctl_cache_${name}_total\\{cache="feed"\\} (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
  return { hits: of('hits'), misses: of('misses'), refills: of('refills'), failures: of('failures') };
}

/**
 * Has feeds read from the database again, everywhere; `userId` undefined: all of them. Readers notice nothing but the time
 * that takes.
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
