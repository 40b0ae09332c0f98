import type { RedisOptions } from 'ioredis';
import { withoutPassword } from '../../database/url.ts';
import { FeedctlError, isFeedctlError } from '../../model/errors.ts';
import { tlsOptions } from '../../util/tls.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** What a cache URL says. */
export interface CacheUrl {
  /** Without its passwords. */
  readonly shown: string;
  readonly kind: 'server' | 'sentinel' | 'cluster';
  /** The server, the sentinels, or nodes of the cluster. */
  readonly hosts: readonly Address[];
  /** Name by which sentinels know the group of servers. */
  readonly group: string;
  /** Database, user and TLS of the servers. */
  readonly server: RedisOptions;
  /** User and TLS of the sentinels. */
  readonly sentinel: RedisOptions;
}

/**
 * Prefix of keys: those of one lineage of a cluster, or those that outlive its lineages. In a Redis Cluster
 * the cluster's id is a hash tag: scripts use many keys at once, so all are in one slot.
 */
export const basePrefix = (cacheUrl: string, cluster: string, name: string): string =>
  `feedctl:${/^\s*rediss?\+cluster:/.test(cacheUrl) ? `{${cluster}}` : ''}${name}:`;

const PARTS = /^(rediss?)(?:\+(sentinel|cluster))?(:\/\/)([^/?#]*)(.*)$/s;

/**
 * Reads `redis(s)://user:password@host:port/number?cacertfile=&certfile=&keyfile=`,
 * `redis(s)+sentinel://user:password@host:port,host:port/group/number` with `sentinel_username`,
 * `sentinel_password` and `sentinel_tls`, and `redis(s)+cluster://user:password@host:port,host:port`. Ignores
 * any other parameter, which the driver would take as one of its options. Throws CONFIG_INVALID.
 */
export function parseCacheUrl(text: string): CacheUrl {
  const shown = withoutPassword(text);
  const bad = (why: string, cause?: unknown) =>
    new FeedctlError('CONFIG_INVALID', `the cache URL ${shown} ${why}`, { cause });
  const [, scheme, kind = 'server', slashes, authority = '', rest = ''] = PARTS.exec(text.trim()) ?? [];
  if (!scheme) throw bad('cannot be read');
  const at = authority.lastIndexOf('@') + 1;
  const user = authority.slice(0, at);
  const hosts = kind === 'server' ? [authority.slice(at)] : authority.slice(at).split(',');
  try {
    const urls = hosts.map((host) => new URL(`${scheme}${slashes}${user}${host.trim()}${rest}`));
    const [{ username, password, pathname, searchParams }] = urls as [URL];
    if (kind !== 'server' && urls.some(({ hostname }) => !hostname)) throw bad('names no host');
    const path = pathname.slice(1);
    const [group, db] =
      kind === 'sentinel' ? [path.split('/')[0]!, path.replace(/^[^/]*\/?/, '')] : ['', path];
    if (kind === 'sentinel' && !group)
      throw bad('names no group of servers: end it with /NAME, by which the sentinels know the master');
    if (!/^\d*$/.test(db)) throw bad(`names the database ${db}, which is no number`);
    if (kind === 'cluster' && Number(db) > 0)
      throw bad(`names the database ${db}: of a Redis Cluster only number 0 can be used`);
    const sentinelTls = searchParams.get('sentinel_tls') ?? 'false';
    if (!/^(true|false)$/.test(sentinelTls)) throw bad('has a sentinel_tls that is neither true nor false');
    const tls = scheme === 'rediss' || sentinelTls === 'true' ? tlsOptions(searchParams, bad) : undefined;
    const login = (name: string | null, secret: string | null): RedisOptions => ({
      ...(name && { username: name }),
      ...(secret && { password: secret }),
    });
    return {
      shown,
      kind: kind as CacheUrl['kind'],
      hosts: urls.map(({ hostname, port }) => ({
        host: hostname.replace(/^\[|\]$/g, ''),
        port: Number(port) || (kind === 'sentinel' ? 26_379 : 6379),
      })),
      group: decodeURIComponent(group),
      server: {
        db: Number(db),
        ...login(decodeURIComponent(username), decodeURIComponent(password)),
        ...(scheme === 'rediss' && tls && { tls }),
      },
      sentinel: {
        ...login(searchParams.get('sentinel_username'), searchParams.get('sentinel_password')),
        ...(sentinelTls === 'true' && tls && { tls }),
      },
    };
  } catch (error) {
    throw isFeedctlError(error) ? error : bad('cannot be read', error);
  }
}
