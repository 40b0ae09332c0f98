import { Redis } from 'ioredis';
import {
  BurstyRateLimiter,
  RateLimiterMemory,
  RateLimiterRedis,
  RateLimiterRes,
} from 'rate-limiter-flexible';
import { redisServer } from '../cache/redis/connection.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import type { REQUEST_LIMITS } from '../resilience/limits.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { RetryLater } from './problems.ts';

export type RequestLimits = { readonly [Name in keyof typeof REQUEST_LIMITS]: number };

const MINUTE_SECONDS = 60;
const BURST_SECONDS = 600;
const LOGIN_SECONDS = 600;
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
  /**
   * `attempt` throws WRONG_PASSWORD where that is so. Counted by account, whatever addresses guesses come from, and before the
   * attempt: guesses made at the same time count too. Throws RATE_LIMITED, with the right password as well.
   */
  login(userId: number, attempt: () => Promise<void>): Promise<void>;
  close(): void;
}

/**
 * With a Redis all gateways count together; while it is away, and without one, each for itself. `name`: of the cluster,
 * as others may use the same Redis.
 */
export function openLimiter(
  limits: RequestLimits,
  shared?: { readonly url: string; readonly name: string },
  metrics?: Metrics,
): Limiter {
  const redis = shared && connect(shared.url);
  const refused = (limit: string) => () => metrics?.count('feedctl_gateway_rate_limited_total', 1, { limit });
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
    return (key: string) =>
      take(bursty, key, `${what} may make ${perMinute} requests a minute`, refused(name));
  };
  const byIp = limit('ip', 'an address', limits.ip);
  const byStranger = limit('stranger', 'an address without a valid token', limits.ipUnauthenticated);
  const byUser = limit('user', 'a user', limits.user);
  const { failedLogins } = limits;
  const logins = failedLogins > 0 ? counter('login', failedLogins, LOGIN_SECONDS) : undefined;
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
    async login(userId, attempt) {
      if (!logins) return attempt();
      const account = String(userId);
      const message = `${failedLogins} wrong passwords of an account are taken in ten minutes`;
      await take(logins, account, message, refused('login'));
      try {
        await attempt();
        await logins.delete(account);
      } catch (error) {
        if (!isFeedctlError(error, 'WRONG_PASSWORD')) await logins.reward(account);
        throw error;
      }
    },
    close: () => redis?.disconnect(),
  };
}

/** Throws RATE_LIMITED with that message. */
async function take(
  counter: Pick<RateLimiterMemory, 'consume'>,
  key: string,
  message: string,
  onRefused: () => void,
): Promise<void> {
  try {
    await counter.consume(key);
  } catch (refusal) {
    if (!(refusal instanceof RateLimiterRes)) throw refusal;
    onRefused();
    const later: RetryLater = { retryAfterSeconds: Math.max(1, Math.ceil(refusal.msBeforeNext / 1000)) };
    throw Object.assign(new FeedctlError('RATE_LIMITED', message), later);
  }
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
