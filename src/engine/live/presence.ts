import type { Database } from '../store/database.ts';

/** Who is online, and at which gateway. */
const CHANNEL = 'feedctl_presence';

/** The gateway's side: it says who has come and gone. */
export async function announce(
  db: Database,
  gatewayId: string,
  userId: number,
  online: boolean,
): Promise<void> {
  const change = online
    ? 'insert into presence (user_id, gateway_id) values ($1, $2) on conflict do nothing returning 1'
    : 'delete from presence where user_id = $1 and gateway_id = $2 returning 1';
  await db.query(`with change as (${change}) select pg_notify('${CHANNEL}', $3) from change`, [
    userId,
    gatewayId,
    `${online ? '+' : '-'} ${gatewayId} ${userId}`,
  ]);
}

export async function registerGateway(db: Database, gateway: { id: string; url: string }): Promise<void> {
  await db.query('insert into gateways (id, url) values ($1, $2)', [gateway.id, gateway.url]);
  await db.query(`select pg_notify('${CHANNEL}', $1)`, [`g ${gateway.id}`]);
}

export async function unregisterGateway(db: Database, gatewayId: string): Promise<void> {
  await db.query('delete from presence where gateway_id = $1', [gatewayId]);
  await db.query('delete from gateways where id = $1', [gatewayId]);
  await db.query(`select pg_notify('${CHANNEL}', $1)`, [`x ${gatewayId}`]);
}

/** The workers' side: everyone who is online, in memory, kept up to date by notifications. */
export interface Presence {
  /**
   * Waits until what was announced before this call is known here. Called after rows are committed: whoever was
   * announced by then is found, and whoever is announced later reads those rows from the feed.
   */
  settle(): Promise<void>;
  /** False while the list cannot be trusted: then everything goes to every gateway. */
  readonly known: boolean;
  readonly count: number;
  gatewaysOf(userId: number): Iterable<string> | undefined;
  gateways(): Iterable<string>;
  close(): Promise<void>;
}

export async function openPresence(db: Database): Promise<Presence> {
  const users = new Map<number, Set<string>>();
  const gateways = new Set<string>();
  let known = false;

  const add = (gateway: string, user: number) => {
    gateways.add(gateway);
    const at = users.get(user) ?? new Set();
    users.set(user, at.add(gateway));
  };
  const remove = (gateway: string, user: number) => {
    const at = users.get(user);
    at?.delete(gateway);
    if (at?.size === 0) users.delete(user);
  };
  const listener = await db.listen([CHANNEL], {
    onNotify: (_, payload) => {
      const [what, gateway = '', user = '0'] = payload.split(' ');
      if (what === '+') add(gateway, Number(user));
      else if (what === '-') remove(gateway, Number(user));
      else if (what === 'g') gateways.add(gateway);
      else if (what === 'x') {
        gateways.delete(gateway);
        for (const id of [...users.keys()]) remove(gateway, id);
      }
    },
    // The same session that listens: nothing announced after this snapshot is missed.
    onListening: async (session) => {
      const all = await session.query<{ user_id: number; gateway_id: string }>(
        'select user_id, gateway_id from presence',
      );
      const alive = await session.query<{ id: string }>('select id from gateways');
      users.clear();
      gateways.clear();
      for (const row of alive.rows) gateways.add(row.id);
      for (const row of all.rows) add(row.gateway_id, row.user_id);
      known = true;
    },
    onLost: () => {
      known = false;
    },
  });
  return {
    async settle() {
      try {
        await listener.barrier();
      } catch {
        known = false;
      }
    },
    get known() {
      return known;
    },
    get count() {
      return users.size;
    },
    gatewaysOf: (userId) => users.get(userId),
    gateways: () => gateways,
    close: () => listener.close(),
  };
}
