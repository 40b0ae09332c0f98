import type { Cluster } from '../cluster/cluster.ts';
import { type ConnectionList, listConnections } from '../gateway/operator/connections.ts';
import { isFeedctlError } from '../model/errors.ts';
import { MAX_ID } from '../model/ids.ts';
import { getUser, type User, userCounts } from '../store/users.ts';

const MAX_CONNECTIONS = 20;

export interface UserDetails extends User {
  /** Whom the user follows. */
  readonly following: number;
  readonly posts: number;
  readonly feed: {
    /** Rows, those that a trim will take too. */
    readonly items: number;
    /** The posts at and below it are read from the posts themselves. */
    readonly floor: number;
    /** False where all of the feed is read from the posts themselves. */
    readonly materialized: boolean;
  };
  readonly cache: {
    readonly kind: string;
    /** Entries that are held; null where the feed is not held, or where each gateway has a cache of its own. */
    readonly entries: number | null;
  };
  /** Open sockets; `unreachable` are gateways that did not answer: what is open there is not known. */
  readonly connections: ConnectionList;
}

/** All that is known of a user, gateways asked. Throws USER_NOT_FOUND. */
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

/** That no gateway answers is no reason to say nothing about the user. */
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
