import { setTimeout as sleep } from 'node:timers/promises';
import type { FeedCache } from '../../cache/cache.ts';
import { acquireLeadership, releaseLeadership } from '../../database/leader.ts';
import { messageOf } from '../../model/errors.ts';
import type { ProcessStats } from '../../stats/process.ts';
import type { Log } from '../../telemetry/log.ts';
import { OutcomeLog } from '../../telemetry/outcomeLog.ts';
import { settleWithin } from '../../util/deadline.ts';
import { type CacheContext, CacheSampler, compareServedPage, compareSharedFeed } from './cachedFeeds.ts';
import { type RowsContext, type RowsOptions, RowsSampler } from './rows.ts';

const EVERY_MS = 15_000;
/** A look takes at most this share of the time of a session, up to twice the interval. */
const MAX_SHARE = 0.02;
/** Three looks: another worker takes over when this one has missed them. */
const LEASE_LOOKS = 3;
const CACHED_FEEDS_A_LOOK = 8;
/** Shutdown waits at most this long for a look: it changes nothing that the next one needs. */
const SHUTDOWN_TIMEOUT_MS = 2_000;
const LEADER = 'sampling.leader';

export interface SampleOptions extends RowsOptions {
  readonly everyMs?: number | undefined;
  readonly leaseSeconds?: number | undefined;
}

/**
 * Compares sampled feeds at a worker, and their copies in a shared cache. One worker does it, by a lease.
 * Returns a function that stops it.
 */
export function sampleFeeds(
  context: RowsContext & {
    /** Id of the worker. */
    readonly id: string;
    readonly sharedCache?: FeedCache | undefined;
    readonly stats?: ProcessStats | undefined;
  },
  options: SampleOptions = {},
): () => Promise<void> {
  const { db, id, log, sharedCache: cache } = context;
  const { everyMs = EVERY_MS } = options;
  const { leaseSeconds = (LEASE_LOOKS * everyMs) / 1_000 } = options;
  const rows = new RowsSampler(context, options);
  const cached = cache?.pages && new CacheSampler({ ...context, cache }, compareSharedFeed);
  const stop = repeat(everyMs, log, async () => {
    if (!(await acquireLeadership(db, LEADER, { id, leaseSeconds }))) return rows.reset();
    const users = await rows.look();
    await cached?.look(users);
  });
  return async () => {
    await stop();
    await settleWithin(SHUTDOWN_TIMEOUT_MS, releaseLeadership(db, LEADER, id));
  };
}

/**
 * Compares cached feeds that a gateway has served lately, through its own cache. Returns a function that
 * stops it.
 */
export function sampleCachedFeeds(context: CacheContext, options: SampleOptions = {}): () => Promise<void> {
  const { cache, log } = context;
  const sampler = new CacheSampler(context, compareServedPage);
  return repeat(options.everyMs ?? EVERY_MS, log, () => sampler.look(cache.sample(CACHED_FEEDS_A_LOOK)));
}

/** Looks again and again, one look at a time. Looks that take long are rarer. */
function repeat(everyMs: number, log: Log, look: () => Promise<void>): () => Promise<void> {
  const stop = new AbortController();
  const { signal } = stop;
  const outcomes = new OutcomeLog(log, 'sample of feeds');
  const running = (async () => {
    for (let pauseMs = everyMs; ; ) {
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const startedAt = performance.now();
      try {
        await look();
        outcomes.worked();
      } catch (error) {
        if (!signal.aborted) outcomes.failed(messageOf(error));
      }
      pauseMs = Math.min(Math.max(everyMs, (performance.now() - startedAt) / MAX_SHARE), 2 * everyMs);
    }
  })();
  return async () => {
    stop.abort();
    await settleWithin(SHUTDOWN_TIMEOUT_MS, running);
  };
}
