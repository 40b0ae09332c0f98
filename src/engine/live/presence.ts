import type { Database, Queryable } from '../database/database.ts';

/** Notifications about online users and gateways. */
const CHANNEL = 'feedctl_presence';
/** Notifications about erased users, for gateways and workers. The payload is the user. */
export const ERASED_CHANNEL = 'feedctl_erased';

/** Bounds a notification: 8,000 bytes, and an id has 16 digits. */
const USERS_A_NOTIFICATION = 400;

/**
 * The gateway's side: who has come and who has gone, any number of users in one statement. In: gateway, users who
 * came, users who went, notifications.
 */
const ANNOUNCE = `
  with came as (insert into presence (user_id, gateway_id) select unnest($2::bigint[]), $1 on conflict do nothing),
  went as (delete from presence where gateway_id = $1 and user_id = any($3))
  select pg_notify('${CHANNEL}', word) from unnest($4::text[]) word`;

export async function announce(
  db: Queryable,
  gatewayId: string,
  change: { came: readonly number[]; went: readonly number[] },
): Promise<void> {
  const words = (sign: '+' | '-', users: readonly number[]): string[] =>
    Array.from({ length: Math.ceil(users.length / USERS_A_NOTIFICATION) }, (_, i) => {
      const part = users.slice(i * USERS_A_NOTIFICATION, (i + 1) * USERS_A_NOTIFICATION);
      return `${sign} ${gatewayId} ${part.join(',')}`;
    });
  await db.query(ANNOUNCE, [
    gatewayId,
    change.came,
    change.went,
    [...words('+', change.came), ...words('-', change.went)],
  ]);
}

/** In: gateway, URL. */
const REGISTER = `
  with registered as (insert into gateways (id, url) values ($1, $2))
  select pg_notify('${CHANNEL}', 'g ' || $1::text)`;

/** From then on posts that are not fanned out are published to it too: its queue has to be there. */
export async function registerGateway(db: Queryable, gateway: { id: string; url: string }): Promise<void> {
  await db.query(REGISTER, [gateway.id, gateway.url]);
}

/** In: gateway, seconds. One that was heard of since then stays. */
const UNREGISTER = `
  with dead as (select $1::uuid as id where not exists (
                  select from gateways where id = $1 and heartbeat_at > now() - $2 * interval '1 s')),
  gone as (delete from gateways where id in (select id from dead)),
  went as (delete from presence where gateway_id in (select id from dead))
  select pg_notify('${CHANNEL}', 'x ' || id::text) from dead`;

/** Returns false where it was heard of since. A gateway that lives all the same learns of it with its next heartbeat. */
export async function unregisterGateway(db: Queryable, id: string, silentSeconds = 0): Promise<boolean> {
  const { rowCount } = await db.query(UNREGISTER, [id, silentSeconds]);
  return rowCount === 1;
}

/** Returns how many users are announced; undefined where the gateway was declared dead. */
export async function gatewayHeartbeat(db: Queryable, id: string): Promise<number | undefined> {
  const { rows } = await db.query<{ online: number }>(
    `update gateways set heartbeat_at = now() where id = $1
     returning (select count(*) from presence where gateway_id = $1)::integer as online`,
    [id],
  );
  return rows[0]?.online;
}

/** Informs every gateway and every worker that a user was erased. */
export async function announceErased(db: Queryable, userId: number): Promise<void> {
  await db.query('select pg_notify($1, $2)', [ERASED_CHANNEL, String(userId)]);
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

/** `onErased`: told of users who are no more. */
export async function openPresence(db: Database, onErased?: (userId: number) => void): Promise<Presence> {
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
  const listener = await db.listen(onErased ? [CHANNEL, ERASED_CHANNEL] : [CHANNEL], {
    onNotify: (channel, payload) => {
      if (channel === ERASED_CHANNEL) {
        onErased?.(Number(payload));
        return;
      }
      const [what, gateway = '', list = ''] = payload.split(' ');
      if (what === '+') for (const user of list.split(',')) add(gateway, Number(user));
      else if (what === '-') for (const user of list.split(',')) remove(gateway, Number(user));
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
