import type { FeedCache } from '../cache/cache.ts';
import type { Database, Listener, Queryable } from '../store/database.ts';
import type { Hub } from './hub.ts';

const ERASED = 'feedctl_erased';

/** Tells every gateway that a user is no more. */
export async function announceErased(db: Queryable, userId: number): Promise<void> {
  await db.query('select pg_notify($1, $2)', [ERASED, String(userId)]);
}

/** At a gateway: closes the user's sockets, and drops pages that were made of their posts. */
export const hearErasures = (db: Database, hub: Hub, cache: FeedCache | undefined): Promise<Listener> =>
  db.listen([ERASED], {
    onNotify: (_, payload) => {
      hub.closeUser(Number(payload));
      cache?.pages?.sealed.clear();
    },
  });
