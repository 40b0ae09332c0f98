import type { Cluster } from '../cluster/cluster.ts';
import { type ConnectionList, listConnections } from '../gateway/operator/connections.ts';
import { isFeedctlError } from '../model/errors.ts';
import { MAX_ID } from '../model/ids.ts';
import { getUser, type User, userCounts } from '../store/users.ts';

const MAX_CONNECTIONS = 20;

export interface UserDetails extends User {
  /** Number of users that the user follows. */
  readonly following: number;
  readonly posts: number;
  readonly feed: {
    /** Rows, including those that the next trim removes. */
    readonly items: number;
    /** Posts at and below this id are read from the posts themselves. */
    readonly floor: number;
    /** False where the whole feed is read from the posts themselves. */
    readonly materialized: boolean;
  };
  readonly cache: {
    readonly kind: string;
    /**
     * Cached entries; null where the feed is not cached, or where each gateway has its own cache.
     */
    readonly entries: number | null;
  };
  /** Open sockets. Sockets at the `unreachable` gateways are unknown. */
  readonly connections: ConnectionList;
}

/** Reads everything about a user, also from the gateways. Throws USER_NOT_FOUND. */
export async function userDetails(
  { db, sharedCache }: Pick<Cluster, 'db' | 'sharedCache'>,
  userId: number,
): Promise<UserDetails> {
  const user = await getUser(db, userId);
  const [{ items, ...counts }, connections, entries] = await Promise.all([
    userCounts(db, userId),
    connectionsOf(db, userId),
    cachedEntries(sharedCache, userId),
  ]);
  return {
    ...user,
    ...counts,
    feed: { items, floor: user.feedFloor, materialized: user.feedFloor !== MAX_ID },
    cache: { kind: sharedCache?.kind ?? 'memory', entries },
    connections,
  };
}

/** Lists sockets. Gateways that do not answer are part of the result, so that the rest is shown. */
async function connectionsOf(db: Cluster['db'], userId: number): Promise<ConnectionList> {
  try {
    return await listConnections(db, { userId, limit: MAX_CONNECTIONS });
  } catch (error) {
    if (!isFeedctlError(error, 'GATEWAY_UNREACHABLE')) throw error;
    return {
      connections: [],
      total: 0,
      unreachable: [{ gatewayId: '', url: '', reason: error.message }],
    };
  }
}

async function cachedEntries(cache: Cluster['sharedCache'], userId: number): Promise<number | null> {
  for await (const [, feed] of cache?.entries([userId]) ?? []) return feed.entries.length;
  return null;
}
