import type { Redis, RedisOptions } from 'ioredis';
import { messageOf } from '../../model/errors.ts';
import type { ServerUrl } from '../../util/serverUrl.ts';

/** Options that a URL may leave out. */
const NONE: RedisOptions = { username: undefined, password: undefined, tls: undefined };
const REFUSED = /\b(WRONGPASS|NOAUTH)\b|invalid password|without any password configured/i;

/**
 * Makes each reconnect use the URL as its source shows it then. The driver has no such hook: it reads its
 * options when it connects, and waits at least 25 ms before it does. A slower source serves the next attempt.
 */
export function followUrl(redis: Redis, server: ServerUrl, read: (url: string) => RedisOptions): void {
  let used = server.current;
  const take = (url: string) => {
    if (url === used) return;
    Object.assign(redis.options, NONE, read(url));
    used = url;
  };
  const follow = (latest: Promise<string>) => void latest.then(take).catch(() => {});
  redis.on('reconnecting', () => follow(server.latest()));
  redis.on('error', (error) => {
    if (REFUSED.test(messageOf(error))) follow(server.afterRefusal(used));
  });
}
