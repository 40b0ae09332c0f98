import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Listener } from '../database/database.ts';
import type { Log } from '../telemetry/log.ts';
import type { Hub } from './hub.ts';

/**
 * Maximum time that an unfollow waits for gateways. After an acknowledged unfollow no socket of the
 * user gets a post of the followee. A gateway checks each frame against the follows before it sends
 * it, so a frame that was checked before the commit may still be in flight. The process that commits
 * the unfollow notifies the gateways with sockets of the user. It waits until each has confirmed that
 * no frame that was checked before the commit is in flight.
 *
 * A gateway that has not confirmed after 500 ms sends no such frame: it repeats a check that is older
 * than `FRESH_MS` of sender.ts, which is shorter. A user who connects meanwhile appears in presence
 * after the commit, and the new session checks its frames after it too.
 */
const CONFIRM_TIMEOUT_MS = 500;
/**
 * A gateway waits this long for a slow client to read its bytes, and then terminates the socket.
 */
const DRAIN_TIMEOUT_MS = 300;
const REQUEST_CHANNEL = 'feedctl_unfollow';
const CONFIRM_CHANNEL = 'feedctl_unfollow_confirm';

/** In: user, request. Notifies the gateways with sockets of the user, and returns them. */
const NOTIFY_GATEWAYS = `
  with online as (select string_agg(gateway_id::text, ',') as gateways from presence where user_id = $1)
  select gateways, pg_notify('${REQUEST_CHANNEL}', concat_ws(' ', $2::text, $1::text, gateways)) from online
  where gateways is not null`;

/** The side of the process that commits an unfollow. */
export interface Unfollows {
  /**
   * Waits after the commit until every gateway with sockets of the user has confirmed that no frame
   * of an older check is in flight, and for at most 500 ms.
   */
  waitForGateways(userId: number): Promise<void>;
  close(): Promise<void>;
}

export const openUnfollows = (db: Database): Unfollows => new NotifiedUnfollows(db);

/** One unfollow that waits for gateways. */
interface Request {
  /** Gateways that have not confirmed; undefined until they are known. */
  missing: Set<string> | undefined;
  /** Gateways that confirmed before `missing` was known. */
  readonly early: string[];
  readonly done: () => void;
}

class NotifiedUnfollows implements Unfollows {
  readonly #db: Database;
  readonly #requests = new Map<string, Request>();
  #listening: Promise<Listener> | undefined;

  constructor(db: Database) {
    this.#db = db;
  }

  async waitForGateways(userId: number): Promise<void> {
    const cancel = new AbortController();
    const timeout = sleep(CONFIRM_TIMEOUT_MS, undefined, { signal: cancel.signal }).catch(() => {});
    // If the gateways cannot be notified, this waits for the whole timeout, in which their checks expire.
    await Promise.race([timeout, this.#request(userId).catch(() => timeout)]);
    cancel.abort();
  }

  async close(): Promise<void> {
    await (await this.#listening?.catch(() => undefined))?.close();
  }

  async #request(userId: number): Promise<void> {
    const id = randomUUID();
    const { promise, resolve } = Promise.withResolvers<void>();
    const request: Request = { missing: undefined, early: [], done: resolve };
    this.#requests.set(id, request);
    try {
      await this.#listen();
      const { rows } = await this.#db.query<{ gateways: string }>(NOTIFY_GATEWAYS, [userId, id]);
      if (!rows[0]) return;
      request.missing = new Set(rows[0].gateways.split(','));
      for (const gateway of request.early) request.missing.delete(gateway);
      if (request.missing.size > 0) await promise;
    } finally {
      this.#requests.delete(id);
    }
  }

  /** Opens the listening session with the first unfollow: most commands have none. */
  #listen(): Promise<Listener> {
    this.#listening ??= this.#db
      .listen([CONFIRM_CHANNEL], {
        onNotify: (_, payload) => {
          const [id = '', gateway = ''] = payload.split(' ');
          this.#confirmed(id, gateway);
        },
      })
      .catch((error) => {
        this.#listening = undefined;
        throw error;
      });
    return this.#listening;
  }

  #confirmed(id: string, gateway: string): void {
    const request = this.#requests.get(id);
    if (!request) return;
    request.early.push(gateway);
    if (request.missing?.delete(gateway) && request.missing.size === 0) request.done();
  }
}

/** Listens at a gateway, and confirms unfollows of its users. */
export function confirmUnfollows(context: { db: Database; log: Log }, hub: Hub): Promise<Listener> {
  const { db, log } = context;
  return db.listen([REQUEST_CHANNEL], {
    onNotify: (_, payload) => {
      const [request = '', userId = '', gateways = ''] = payload.split(' ');
      const { gatewayId } = hub;
      if (!gateways.split(',').includes(gatewayId)) return;
      hub
        .unfollowed(Number(userId), DRAIN_TIMEOUT_MS)
        .then(() => db.query(`select pg_notify('${CONFIRM_CHANNEL}', $1)`, [`${request} ${gatewayId}`]))
        .catch((error) => log.warn({ userId, reason: String(error) }, 'unfollow not confirmed'));
    },
  });
}
