import { Redis } from 'ioredis';
import {
  BurstyRateLimiter,
  RateLimiterMemory,
  RateLimiterRedis,
  RateLimiterRes,
} from 'rate-limiter-flexible';
import { basePrefix } from '../cache/redis/cacheUrl.ts';
import { endpointFor } from '../cache/redis/endpoint.ts';
import { isRefusal } from '../cache/redis/faults.ts';
import { followUrl } from '../cache/redis/followUrl.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import type { REQUEST_LIMITS } from '../resilience/limits.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { ServerUrl } from '../util/serverUrl.ts';
import type { RetryLater } from './problems.ts';

export type RequestLimits = { readonly [Name in keyof typeof REQUEST_LIMITS]: number };

const MINUTE_SECONDS = 60;
const BURST_SECONDS = 600;
const LOGIN_SECONDS = 600;
/** Maximum wait for Redis. Without its answer this gateway counts by itself. */
const REDIS_TIMEOUT_MS = 250;

/** A client. `userId`: of a valid token. `writes`: the request posts or follows. */
export interface Caller {
  readonly ip: string;
  readonly userId: number | undefined;
  readonly writes: boolean;
  /** The token is one of an operator: only the limit of the address applies. */
  readonly operator?: boolean;
}

/** Counts requests, and refuses those above the limits. */
export interface Limiter {
  /** Throws RATE_LIMITED. */
  admit(caller: Caller): Promise<void>;
  /**
   * Runs `attempt`, which throws WRONG_PASSWORD. Counts by account and not by address, and before
   * the attempt, so that concurrent guesses count too. Throws RATE_LIMITED even for the right
   * password.
   */
  login<T>(userId: number, attempt: () => Promise<T>): Promise<T>;
  close(): void;
}

/**
 * Opens the limits. With a Redis all gateways count together. While it is down, and without one,
 * each gateway counts by itself. `name`: of the cluster, as several may share a Redis.
 */
export function openLimiter(
  limits: RequestLimits,
  shared?: { readonly url: string | ServerUrl; readonly cluster: string },
  metrics?: Metrics,
): Limiter {
  const redis = shared && connect(shared);
  const base = shared ? basePrefix(ServerUrl.of(shared.url).current, shared.cluster, shared.cluster) : '';
  const refused = (limit: string) => () => metrics?.count('feedctl_gateway_rate_limited_total', 1, { limit });
  const counter = (name: string, points: number, duration: number) => {
    const keyPrefix = `${base}limit:${name}`;
    const memory = new RateLimiterMemory({ keyPrefix, points, duration });
    if (!redis) return memory;
    // Above the limit a key is counted in this process only: a flood must not reach Redis.
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
  const byUnauthenticated = limit('stranger', 'an address without a valid token', limits.ipUnauthenticated);
  const byUser = limit('user', 'a user', limits.user);
  const { failedLogins } = limits;
  const logins = failedLogins > 0 ? counter('login', failedLogins, LOGIN_SECONDS) : undefined;
  const byWriter = limit('writer', 'a user who posts and follows', limits.userWrites);
  return {
    async admit({ ip, userId, writes, operator }) {
      const user = String(userId);
      await Promise.all(
        userId === undefined
          ? [byIp?.(ip), !operator && byUnauthenticated?.(ip)]
          : [byIp?.(ip), byUser?.(user), writes && byWriter?.(user)],
      );
    },
    async login(userId, attempt) {
      if (!logins) return attempt();
      const account = String(userId);
      const message = `an account may have ${failedLogins} failed logins in ten minutes`;
      await take(logins, account, message, refused('login'));
      try {
        const answer = await attempt();
        await logins.delete(account);
        return answer;
      } catch (error) {
        if (!isFeedctlError(error, 'WRONG_PASSWORD')) await logins.reward(account);
        throw error;
      }
    },
    close: () => redis?.disconnect(),
  };
}

/** Counts one request. Throws RATE_LIMITED with that message. */
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

function connect({ url, cluster }: { url: string | ServerUrl; cluster: string }): Redis {
  const { options, source } = endpointFor(url, cluster);
  const redis = new Redis({
    ...options,
    connectionName: 'feedctl limits',
    commandTimeout: REDIS_TIMEOUT_MS,
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    maxRetriesPerRequest: 0,
    reconnectOnError: isRefusal,
    disableClientInfo: true,
  });
  if (source) followUrl(redis, source.url, source.options);
  // The cache already logs that Redis is down.
  redis.on('error', () => {});
  return redis;
}
