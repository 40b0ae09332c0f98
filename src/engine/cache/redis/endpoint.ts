import type { RedisOptions } from 'ioredis';
import { basePrefix, type CacheUrl, parseCacheUrl } from './cacheUrl.ts';
import { connectorTo, masterOf, ownerOf, ownersOf } from './locate.ts';

const HELLO_KEY = 'feedctl:hello';

/** One server for the keys of one cluster. It may be another server after each reconnect. */
export interface Endpoint {
  readonly shown: string;
  readonly kind: CacheUrl['kind'];
  /** Options of the driver. */
  readonly options: RedisOptions;
  /**
   * The key that a new connection writes and deletes. In a Redis Cluster it is in the slot of the other keys.
   * Undefined for a connection that only reads and deletes what is there.
   */
  readonly helloKey?: string;
}

/** Returns the endpoint for the keys of a cluster of that name. Throws CONFIG_INVALID. */
export function endpointFor(text: string, name: string): Endpoint {
  const url = parseCacheUrl(text);
  const { shown, kind, hosts, server } = url;
  if (kind === 'server') return { shown, kind, options: { ...server, ...hosts[0] }, helloKey: HELLO_KEY };
  const helloKey = kind === 'cluster' ? `${basePrefix(text, name)}hello` : HELLO_KEY;
  const Connector = connectorTo(kind === 'cluster' ? ownerOf(url, helloKey) : masterOf(url), server.tls);
  return { shown, kind, options: { ...server, Connector }, helloKey };
}

/**
 * Returns endpoints for all servers that may hold keys of any cluster: the nodes of a Redis Cluster that own
 * slots. Throws CONFIG_INVALID, or the code of a Redis Cluster that does not answer.
 */
export async function allEndpoints(text: string): Promise<Endpoint[]> {
  const url = parseCacheUrl(text);
  if (url.kind !== 'cluster') return [endpointFor(text, '')];
  const { shown, kind, server } = url;
  return (await ownersOf(url)).map(({ host, port }) => ({ shown, kind, options: { ...server, host, port } }));
}
