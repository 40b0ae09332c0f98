import type { FeedCache } from '../cache/cache.ts';
import type { Database, Listener, Queryable } from '../database/database.ts';
import type { ProcessStats } from '../stats/process.ts';
import type { Hub } from './hub.ts';

/** Heard by gateways and by workers: the payload is the user. */
export const ERASED_CHANNEL = 'feedctl_erased';

/** Tells every gateway and every worker that a user is no more. */
export async function announceErased(db: Queryable, userId: number): Promise<void> {
  await db.query('select pg_notify($1, $2)', [ERASED_CHANNEL, String(userId)]);
}

/** At a gateway: closes the user's sockets, and drops pages that were made of their posts. */
export const listenForErasures = (
  db: Database,
  hub: Hub,
  cache: FeedCache | undefined,
  stats: ProcessStats | undefined,
): Promise<Listener> =>
  db.listen([ERASED_CHANNEL], {
    onNotify: (_, payload) => {
      stats?.forget(Number(payload));
      hub.closeUser(Number(payload));
      cache?.pages?.recentPages.clear();
    },
  });
