import type { RedisOptions } from 'ioredis';
import { ServerUrl } from '../../util/serverUrl.ts';
import { basePrefix, type CacheUrl, parseCacheUrl } from './cacheUrl.ts';
import { connectorTo, masterOf, ownerOf, ownersOf } from './locate.ts';

const HELLO_KEY = 'feedctl:hello';

/** One server for the keys of one cluster. It may be another server after each reconnect. */
export interface Endpoint {
  readonly shown: string;
  readonly kind: CacheUrl['kind'];
  /** Options of the driver. */
  readonly options: RedisOptions;
  /** Source of the URL, which a reconnect reads again, and the options for a URL of it. */
  readonly source?: { readonly url: ServerUrl; readonly options: (url: string) => RedisOptions };
  /**
   * The key that a new connection writes and deletes. In a Redis Cluster it is in the slot of the other keys.
   * Undefined for a connection that only reads and deletes what is there.
   */
  readonly helloKey?: string;
}

/** Returns the endpoint for the keys of the cluster with that id. Throws CONFIG_INVALID. */
export function endpointFor(url: string | ServerUrl, cluster: string): Endpoint {
  const source = ServerUrl.of(url);
  const { current } = source;
  const { shown, kind } = parseCacheUrl(current);
  const helloKey = kind === 'cluster' ? `${basePrefix(current, cluster, '')}hello` : HELLO_KEY;
  const optionsFor = (text: string) => optionsOf(parseCacheUrl(text), helloKey);
  return {
    shown,
    kind,
    options: optionsFor(current),
    source: { url: source, options: optionsFor },
    helloKey,
  };
}

function optionsOf(url: CacheUrl, helloKey: string): RedisOptions {
  const { kind, hosts, server } = url;
  if (kind === 'server') return { ...server, ...hosts[0] };
  const Connector = connectorTo(kind === 'cluster' ? ownerOf(url, helloKey) : masterOf(url), server.tls);
  return { ...server, Connector };
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
