import type { FeedCache } from '../cache/cache.ts';
import type { Database, Listener } from '../database/database.ts';
import type { ProcessStats } from '../stats/process.ts';
import type { Hub } from './hub.ts';
import { ERASED_CHANNEL } from './presence.ts';

/**
 * Listens at a gateway: closes the sockets of an erased user, and drops cached pages made of their
 * posts.
 */
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
