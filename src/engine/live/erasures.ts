import type { FeedCache } from '../cache/cache.ts';
import type { Database, Listener } from '../database/database.ts';
import type { ProcessStats } from '../stats/process.ts';
import type { Hub } from './hub.ts';
import { ERASED_CHANNEL } from './presence.ts';

/** Tokens of a gateway. A failed call is repeated by the gateway within seconds. */
interface ErasedTokens {
  erased(userId: number): Promise<void>;
  refresh(): Promise<void>;
}

/**
 * Listens at a gateway: refuses the tokens of an erased user, closes their sockets, and drops cached
 * pages made of their posts.
 */
export const listenForErasures = (
  db: Database,
  hub: Hub,
  tokens: ErasedTokens,
  cache: FeedCache | undefined,
  stats: ProcessStats | undefined,
): Promise<Listener> =>
  db.listen([ERASED_CHANNEL], {
    // Announcements before this are lost. Not awaited: the session needs no answer to listen.
    onListening: () => void tokens.refresh().catch(() => {}),
    onNotify: (_, payload) => {
      tokens.erased(Number(payload)).catch(() => {});
      stats?.forget(Number(payload));
      hub.closeUser(Number(payload));
      cache?.pages?.recentPages.clear();
    },
  });
