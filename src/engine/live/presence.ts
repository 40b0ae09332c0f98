import type { Database, Listener, Queryable } from '../database/database.ts';
import { DATABASE_NOW } from '../store/databaseClock.ts';

/** Notifications about online users and gateways. */
const CHANNEL = 'feedctl_presence';
/** Notifications about erased users, for gateways and workers. The payload is the user. */
export const ERASED_CHANNEL = 'feedctl_erased';

/** A notification holds at most 8,000 bytes, and an id has up to 16 digits. */
const USERS_A_NOTIFICATION = 400;

/**
 * Announces any number of users of a gateway in one statement. In: gateway, users who are online
 * now, users who no longer are, notifications.
 */
const ANNOUNCE = `
  with arrived as (
    insert into presence (user_id, gateway_id) select unnest($2::bigint[]), $1 on conflict do nothing
  ),
  departed as (delete from presence where gateway_id = $1 and user_id = any($3))
  select pg_notify('${CHANNEL}', payload) from unnest($4::text[]) payload`;

export async function announce(
  db: Queryable,
  gatewayId: string,
  { arrived, left }: { arrived: readonly number[]; left: readonly number[] },
): Promise<void> {
  const payloads = (sign: '+' | '-', users: readonly number[]): string[] =>
    Array.from({ length: Math.ceil(users.length / USERS_A_NOTIFICATION) }, (_, i) => {
      const part = users.slice(i * USERS_A_NOTIFICATION, (i + 1) * USERS_A_NOTIFICATION);
      return `${sign} ${gatewayId} ${part.join(',')}`;
    });
  await db.query(ANNOUNCE, [gatewayId, arrived, left, [...payloads('+', arrived), ...payloads('-', left)]]);
}

/** In: gateway, URL. */
const REGISTER = `
  with registered as (insert into gateways (id, url) values ($1, $2))
  select pg_notify('${CHANNEL}', 'g ' || $1::text)`;

/**
 * Registers a gateway. Its queue must exist: posts that are not fanned out are published to it from
 * now on.
 */
export async function registerGateway(db: Queryable, gateway: { id: string; url: string }): Promise<void> {
  await db.query(REGISTER, [gateway.id, gateway.url]);
}

/** In: gateway, seconds. A gateway with a heartbeat within these seconds stays. */
const UNREGISTER = `
  with dead as (select $1::uuid as id where not exists (
                  select from gateways where id = $1 and heartbeat_at > now() - $2 * interval '1 s')),
  unregistered as (delete from gateways where id in (select id from dead)),
  departed as (delete from presence where gateway_id in (select id from dead))
  select pg_notify('${CHANNEL}', 'x ' || id::text) from dead`;

/**
 * Returns false if the gateway is alive. A gateway that is unregistered by mistake learns it by its
 * next heartbeat.
 */
export async function unregisterGateway(db: Queryable, id: string, silentSeconds = 0): Promise<boolean> {
  const { rowCount } = await db.query(UNREGISTER, [id, silentSeconds]);
  return rowCount === 1;
}

/**
 * Returns the number of announced users, and the time of the database. Undefined: the gateway was
 * declared dead.
 */
export async function gatewayHeartbeat(
  db: Queryable,
  id: string,
): Promise<{ readonly online: number; readonly now: number } | undefined> {
  const { rows } = await db.query<{ online: number; now: number }>(
    `update gateways set heartbeat_at = now() where id = $1
     returning (select count(*) from presence where gateway_id = $1)::integer as online,
               ${DATABASE_NOW} as now`,
    [id],
  );
  return rows[0];
}

/** Informs every gateway and every worker that a user was erased. */
export async function announceErased(db: Queryable, userId: number): Promise<void> {
  await db.query('select pg_notify($1, $2)', [ERASED_CHANNEL, String(userId)]);
}

/** All online users in the memory of a worker, kept up to date by notifications. */
export interface Presence {
  /**
   * Resolves when everything announced before this call is known here. Called after rows are
   * committed: a user who was announced before that is found, and a user who is announced later
   * reads those rows from the feed.
   */
  settle(): Promise<void>;
  /** False while the list may be incomplete: then every post is published to every gateway. */
  readonly known: boolean;
  readonly count: number;
  gatewaysOf(userId: number): Iterable<string> | undefined;
  gateways(): Iterable<string>;
  close(): Promise<void>;
}

/** Opens the list of online users. `onErased` is called with every erased user. */
export async function openPresence(db: Database, onErased?: (userId: number) => void): Promise<Presence> {
  const presence = new NotifiedPresence(onErased);
  await presence.listen(db);
  return presence;
}

class NotifiedPresence implements Presence {
  readonly #onErased: ((userId: number) => void) | undefined;
  readonly #users = new Map<number, Set<string>>();
  readonly #gateways = new Set<string>();
  #listener: Listener | undefined;
  #known = false;

  constructor(onErased: ((userId: number) => void) | undefined) {
    this.#onErased = onErased;
  }

  async listen(db: Database): Promise<void> {
    this.#listener = await db.listen(this.#onErased ? [CHANNEL, ERASED_CHANNEL] : [CHANNEL], {
      onNotify: (channel, payload) => {
        if (channel === ERASED_CHANNEL) this.#onErased?.(Number(payload));
        else this.#apply(payload);
      },
      onListening: (session) => this.#load(session),
      onLost: () => {
        this.#known = false;
      },
    });
  }

  async settle(): Promise<void> {
    try {
      await this.#listener!.barrier();
    } catch {
      this.#known = false;
    }
  }

  get known(): boolean {
    return this.#known;
  }

  get count(): number {
    return this.#users.size;
  }

  gatewaysOf(userId: number): Iterable<string> | undefined {
    return this.#users.get(userId);
  }

  gateways(): Iterable<string> {
    return this.#gateways;
  }

  async close(): Promise<void> {
    await this.#listener?.close();
  }

  /**
   * Loads everything in the session that listens: nothing announced after this snapshot is missed.
   */
  async #load(session: Queryable): Promise<void> {
    const online = await session.query<{ user_id: number; gateway_id: string }>(
      'select user_id, gateway_id from presence',
    );
    const alive = await session.query<{ id: string }>('select id from gateways');
    this.#users.clear();
    this.#gateways.clear();
    for (const row of alive.rows) this.#gateways.add(row.id);
    for (const row of online.rows) this.#add(row.gateway_id, row.user_id);
    this.#known = true;
  }

  #apply(payload: string): void {
    const [change, gateway = '', list = ''] = payload.split(' ');
    if (change === '+') for (const user of list.split(',')) this.#add(gateway, Number(user));
    else if (change === '-') for (const user of list.split(',')) this.#remove(gateway, Number(user));
    else if (change === 'g') this.#gateways.add(gateway);
    else if (change === 'x') {
      this.#gateways.delete(gateway);
      for (const user of [...this.#users.keys()]) this.#remove(gateway, user);
    }
  }

  #add(gateway: string, user: number): void {
    this.#gateways.add(gateway);
    const gateways = this.#users.get(user) ?? new Set();
    this.#users.set(user, gateways.add(gateway));
  }

  #remove(gateway: string, user: number): void {
    const gateways = this.#users.get(user);
    gateways?.delete(gateway);
    if (gateways?.size === 0) this.#users.delete(user);
  }
}
