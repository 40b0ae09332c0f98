import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Listener } from '../database/database.ts';
import type { Log } from '../telemetry/log.ts';
import type { Hub } from './hub.ts';

/**
 * Nobody gets a post of somebody they have been told they no longer follow. Whoever commits an unfollow asks the
 * gateways that hold the user, by notification, and answers when all of them have confirmed that no frame checked
 * before is under way. From a gateway that does not confirm in time nothing comes either: it sends no frame on a check
 * that old (`FRESH_MS` in hub.ts). A user who comes online meanwhile is announced, and then checked, after the commit.
 */
const CONFIRM_TIMEOUT_MS = 500;
/** A gateway waits as long for a slow client's bytes to go, and then cuts the socket. */
const DRAIN_TIMEOUT_MS = 300;
const ASK = 'feedctl_unfollow';
const CONFIRM = 'feedctl_unfollow_confirm';

/** In: user, question. Asks the gateways that hold the user, and returns them. */
const ASK_GATEWAYS = `
  with held as (select string_agg(gateway_id::text, ',') as gateways from presence where user_id = $1)
  select gateways, pg_notify('${ASK}', concat_ws(' ', $2::text, $1::text, gateways)) from held
  where gateways is not null`;

/** The side that unfollows. */
export interface Unfollows {
  /** After the commit: resolves when no gateway has a frame under way that was checked before, 500 ms later at most. */
  confirm(userId: number): Promise<void>;
  close(): Promise<void>;
}

export function openUnfollows(db: Database): Unfollows {
  const questions = new Map<string, { left: Set<string>; early: string[]; done: () => void }>();
  let listening: Promise<Listener> | undefined;
  // Most commands unfollow nobody.
  const listen = (): Promise<Listener> => {
    listening ??= db
      .listen([CONFIRM], {
        onNotify: (_, payload) => {
          const [question = '', gateway = ''] = payload.split(' ');
          const asked = questions.get(question);
          if (!asked) return;
          asked.early.push(gateway);
          if (asked.left.delete(gateway) && asked.left.size === 0) asked.done();
        },
      })
      .catch((error) => {
        listening = undefined;
        throw error;
      });
    return listening;
  };
  const ask = async (userId: number): Promise<void> => {
    const id = randomUUID();
    const { promise, resolve } = Promise.withResolvers<void>();
    const question = { left: new Set<string>(), early: [] as string[], done: resolve };
    questions.set(id, question);
    try {
      await listen();
      const { rows } = await db.query<{ gateways: string }>(ASK_GATEWAYS, [userId, id]);
      if (!rows[0]) return;
      question.left = new Set(rows[0].gateways.split(','));
      for (const gateway of question.early) question.left.delete(gateway);
      if (question.left.size > 0) await promise;
    } finally {
      questions.delete(id);
    }
  };
  return {
    async confirm(userId) {
      const late = new AbortController();
      const timeout = sleep(CONFIRM_TIMEOUT_MS, undefined, { signal: late.signal }).catch(() => {});
      // Where the gateways cannot be asked, the time alone has to pass.
      await Promise.race([timeout, ask(userId).catch(() => timeout)]);
      late.abort();
    },
    async close() {
      await (await listening?.catch(() => undefined))?.close();
    },
  };
}

/** The side that holds the user. */
export function confirmUnfollows(context: { db: Database; log: Log }, hub: Hub): Promise<Listener> {
  const { db, log } = context;
  return db.listen([ASK], {
    onNotify: (_, payload) => {
      const [question = '', userId = '', gateways = ''] = payload.split(' ');
      const { gatewayId } = hub;
      if (!gateways.split(',').includes(gatewayId)) return;
      hub
        .unfollowed(Number(userId), DRAIN_TIMEOUT_MS)
        .then(() => db.query(`select pg_notify('${CONFIRM}', $1)`, [`${question} ${gatewayId}`]))
        .catch((error) => log.warn({ userId, reason: String(error) }, 'unfollow not confirmed'));
    },
  });
}
