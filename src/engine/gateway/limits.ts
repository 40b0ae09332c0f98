import { Redis } from 'ioredis';
import {
  BurstyRateLimiter,
  RateLimiterMemory,
  RateLimiterRedis,
  RateLimiterRes,
} from 'rate-limiter-flexible';
import { redisServer } from '../cache/redis/connection.ts';
import { FeedctlError } from '../model/errors.ts';
import type { REQUESTS_A_MINUTE } from '../resilience/limits.ts';
import type { RetryLater } from './problems.ts';

export type RequestLimits = { readonly [Name in keyof typeof REQUESTS_A_MINUTE]: number };

const MINUTE_SECONDS = 60;
const BURST_SECONDS = 600;
/** A Redis that takes longer is not waited for: this gateway counts by itself meanwhile. */
const REDIS_MS = 250;

/** Who asks: the user of a valid token if there is one, and whether it is a post or a follow. */
export interface Caller {
  readonly ip: string;
  readonly userId: number | undefined;
  readonly writes: boolean;
}

/** Counts requests, and refuses those beyond the limits. */
export interface Limiter {
  /** Throws RATE_LIMITED. */
  admit(caller: Caller): Promise<void>;
  close(): void;
}

/**
 * With a Redis all gateways count together; while it is away, and without one, each for itself. `name`: of the cluster,
 * as others may use the same Redis.
 */
export function openLimiter(
  limits: RequestLimits,
  shared?: { readonly url: string; readonly name: string },
): Limiter {
  const redis = shared && connect(shared.url);
  const counter = (name: string, points: number, duration: number) => {
    const keyPrefix = `feedctl:${shared?.name ?? ''}:limit:${name}`;
    const memory = new RateLimiterMemory({ keyPrefix, points, duration });
    if (!redis) return memory;
    // Whoever is over the limit is not counted in Redis any more: a flood stays in this process.
    const inMemoryBlockOnConsumed = points + 1;
    const options = { keyPrefix, points, duration, inMemoryBlockOnConsumed, insuranceLimiter: memory };
    return new RateLimiterRedis({ ...options, storeClient: redis });
  };
  const limit = (name: string, what: string, perMinute: number) => {
    if (perMinute === 0) return undefined;
    const burst = Math.floor((perMinute * limits.burstPercent) / 100);
    const steady = counter(name, perMinute, MINUTE_SECONDS);
    const bursty =
      burst > 0 ? new BurstyRateLimiter(steady, counter(`${name}-burst`, burst, BURST_SECONDS)) : steady;
    return async (key: string) => {
      try {
        await bursty.consume(key);
      } catch (refusal) {
        if (!(refusal instanceof RateLimiterRes)) throw refusal;
        const later: RetryLater = { retryAfterSeconds: Math.max(1, Math.ceil(refusal.msBeforeNext / 1000)) };
        const message = `${what} may make ${perMinute} requests a minute`;
        throw Object.assign(new FeedctlError('RATE_LIMITED', message), later);
      }
    };
  };
  const byIp = limit('ip', 'an address', limits.ip);
  const byStranger = limit('stranger', 'an address without a valid token', limits.ipUnauthenticated);
  const byUser = limit('user', 'a user', limits.user);
  const byWriter = limit('writer', 'a user who posts and follows', limits.userWrites);
  return {
    async admit({ ip, userId, writes }) {
      const user = String(userId);
      await Promise.all(
        userId === undefined
          ? [byIp?.(ip), byStranger?.(ip)]
          : [byIp?.(ip), byUser?.(user), writes && byWriter?.(user)],
      );
    },
    close: () => redis?.disconnect(),
  };
}

function connect(url: string): Redis {
  const redis = new Redis({
    ...redisServer(url),
    connectionName: 'feedctl limits',
    commandTimeout: REDIS_MS,
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    maxRetriesPerRequest: 0,
    disableClientInfo: true,
  });
  // The cache logs that Redis is away; the limits go on without it.
  redis.on('error', () => {});
  return redis;
}
