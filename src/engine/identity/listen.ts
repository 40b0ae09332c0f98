import type { Database, Listener } from '../database/database.ts';
import type { ListenHandlers } from '../database/listener.ts';
import { FeedctlError } from '../model/errors.ts';
import { type Identity, LINEAGE_CHANNEL } from './identity.ts';

/**
 * Listens on channels with a session that leads to the history which this process works with. It confirms
 * the identity at each connect, ahead of `onListening`. It connects again when the process meets another
 * lineage or another server: notifications of the former one say nothing about the present one.
 */
export async function listenConfirmed(
  db: Database,
  identity: Identity,
  channels: readonly string[],
  handlers: ListenHandlers,
): Promise<Listener> {
  const present = () => `${identity.lineage} ${identity.instance}`;
  /** What the session was confirmed for; undefined while it is not listening. */
  let confirmed: string | undefined;
  let listener: Listener | undefined;
  /** Lineage of the last notification since the connect. */
  let announced: string | undefined;
  const lost = () => {
    confirmed = undefined;
    handlers.onLost?.();
  };
  const leave = () => {
    if (confirmed === undefined) return;
    lost();
    listener?.reconnect();
  };
  const unwatch = identity.watch(() => {
    if (confirmed !== present()) leave();
  });
  const changed = () =>
    new FeedctlError('DATABASE_UNREACHABLE', 'the listening session leads to another history');
  try {
    listener = await db.listen([...channels, LINEAGE_CHANNEL], {
      onNotify(channel, payload) {
        if (channel !== LINEAGE_CHANNEL) return handlers.onNotify(channel, payload);
        announced = payload;
        if (payload !== identity.lineage) leave();
      },
      async onListening(session) {
        announced = undefined;
        await identity.confirm(session, db.url);
        const found = present();
        await handlers.onListening?.(session);
        if (found !== present() || (announced !== undefined && announced !== identity.lineage))
          throw changed();
        confirmed = found;
      },
      onLost: lost,
    });
  } catch (error) {
    unwatch();
    throw error;
  }
  const opened = listener;
  return {
    async barrier() {
      await opened.barrier();
      if (confirmed !== present()) throw changed();
    },
    reconnect: () => opened.reconnect(),
    close() {
      unwatch();
      return opened.close();
    },
  };
}
