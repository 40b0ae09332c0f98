import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { FeedctlError } from '../model/errors.ts';
import { poll } from '../util/poll.ts';
import { ServerUrl } from '../util/serverUrl.ts';
import { explainError } from './errors.ts';
import { readServerState, type ServerState, urlAt } from './hosts.ts';
import { CONNECT_TIMEOUT_MS, KEEP_ALIVE, SessionClient, socketOf } from './session.ts';
import type { Queryable } from './types.ts';
import { withoutPassword } from './url.ts';

const CHANNEL = 'feedctl_hello';
/** First key of the advisory locks of this check: "fs". */
const LOCK_CLASS = 0x6673;
/** A server that keeps sessions sends a notification within milliseconds. */
const HEARD_MS = 1_000;
const HEARD_POLL_MS = 5;
/** Maximum time of the whole check. */
const CHECK_TIMEOUT_MS = 10_000;

/** Throws DATABASE_READ_ONLY if statements of this session cannot write. */
export async function checkWritable(db: Queryable, url: string): Promise<void> {
  const state = await readServerState(db);
  if (state.standby || state.readOnly) throwReadOnly(state, url);
}

/** Throws DATABASE_READ_ONLY for a session that cannot write. */
export function throwReadOnly({ standby }: Pick<ServerState, 'standby'>, url: string): never {
  const why = standby
    ? 'the server is a standby, which replays the log of its primary'
    : 'default_transaction_read_only is on';
  throw new FeedctlError(
    'DATABASE_READ_ONLY',
    `the database ${withoutPassword(url)} accepts no writes: ${why}`,
  );
}

const LOST = {
  notification: 'a notification did not arrive at the session that listens',
  lock: 'a lock of one session did not exclude another session',
} as const;

/**
 * Checks that one connection is one session of the server, as notifications and session locks need.
 * One session listens and another notifies it; then one holds an advisory lock and the other tries to
 * take it. Throws DATABASE_POOLED.
 */
export async function checkSessionsKept(url: string | ServerUrl): Promise<void> {
  const server = ServerUrl.of(url);
  const config = {
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    application_name: 'feedctl session check',
    ...KEEP_ALIVE,
  };
  const sessions: pg.Client[] = [];
  const open = async (at: ServerUrl) => {
    const session = new SessionClient({ ...config, server: at });
    session.on('error', () => {});
    sessions.push(session);
    return session.connect();
  };
  const timer = setTimeout(() => {
    for (const session of sessions) socketOf(session).destroy();
  }, CHECK_TIMEOUT_MS);
  try {
    const listener = await open(server);
    // Both at the same host, where several of them take sessions.
    const other = await open(server.derive((one) => urlAt(one, listener.host, listener.port)));
    const lost = await findLost(listener, other);
    if (lost) {
      const at = withoutPassword(server.current);
      throw new FeedctlError('DATABASE_POOLED', `the database ${at} does not keep sessions: ${LOST[lost]}`);
    }
  } catch (error) {
    throw explainError(error, server.current);
  } finally {
    clearTimeout(timer);
    for (const session of sessions) await session.end().catch(() => {});
  }
}

async function findLost(listener: pg.Client, other: pg.Client): Promise<keyof typeof LOST | undefined> {
  const word = randomBytes(8).toString('hex');
  let heard = false;
  listener.on('notification', ({ payload }) => {
    heard ||= payload === word;
  });
  await listener.query(`listen ${CHANNEL}`);
  await other.query('select pg_notify($1, $2)', [CHANNEL, word]);
  // The listener sends no statement meanwhile: a pool could lend it the session that has listened.
  await poll(() => heard, { everyMs: HEARD_POLL_MS, timeoutMs: HEARD_MS });
  // A slow server sends the notification ahead of the answer to a statement.
  if (!heard) await listener.query('select 1');
  if (!heard) return 'notification';
  // 32 bits, as the key of the lock is two integers.
  const key = randomBytes(4).readInt32BE();
  await listener.query('select pg_advisory_lock($1, $2)', [LOCK_CLASS, key]);
  const taken = await other.query('select pg_try_advisory_lock($1, $2) as taken', [LOCK_CLASS, key]);
  const freed = await listener.query('select pg_advisory_unlock($1, $2) as freed', [LOCK_CLASS, key]);
  return taken.rows[0].taken || !freed.rows[0].freed ? 'lock' : undefined;
}
