import { setTimeout as sleep } from 'node:timers/promises';
import { FeedctlError } from '../model/errors.ts';
import type { Database } from './database.ts';
import type { Session } from './types.ts';

/** Maximum wait for one lock: statements of others queue behind it that long. */
const LOCK_MS = 300;
/** Pause after an attempt, plus up to half of it, so that statements of others are not held up again. */
const PAUSE_MS = 2_000;
/** A change of the schema waits this long for other sessions in all. */
const BLOCKED_MS = 600_000;
const LOOK_INTERVAL_MS = 100;

export interface LockWait {
  /** No attempt begins later. Default: 10 minutes. */
  readonly timeoutMs?: number | undefined;
  /** Runs with the names of the sessions that hold the lock, whenever they are others than before. */
  readonly onBlocked?: ((blockers: string) => void) | undefined;
}

/** Limits the wait for each lock in a session, or in its transaction (`local`). */
export type LimitLocks = (session: Session, scope: 'session' | 'local') => Promise<void>;

/** In: process of the server that waits. The text of a statement may be long. */
const BLOCKERS = `
  select a.pid, coalesce(a.usename, 'unknown') as "user", coalesce(a.state, 'unknown') as state,
         coalesce(nullif(a.application_name, ''), 'unnamed') as name,
         to_char(a.xact_start at time zone 'UTC', 'HH24:MI:SS') as since,
         regexp_replace(left(a.query, 60), '\\s+', ' ', 'g') ||
           case when length(a.query) > 60 then '…' else '' end as query
  from pg_stat_activity a where a.pid = any(pg_blocking_pids($1)) order by a.xact_start`;

interface Blocker {
  readonly pid: number;
  readonly user: string;
  readonly name: string;
  readonly state: string;
  readonly since: string | null;
  readonly query: string;
}

const nameOf = ({ pid, user, name, state, since, query }: Blocker): string => {
  const open = since ? `, in a transaction since ${since} UTC` : '';
  return `session ${pid} of ${user} (${name}, ${state}${open}: ${query})`;
};

/**
 * Runs a change of the schema that never makes other statements wait long. A lock that another session
 * holds is waited for briefly, because later statements queue behind that wait. Then the attempt is
 * rolled back and repeated after a pause. `attempt` passes its session to `limit` before it takes locks.
 * Throws SCHEMA_LOCKED with the sessions in the way.
 */
export async function withShortLocks<T>(
  db: Database,
  attempt: (limit: LimitLocks) => Promise<T>,
  { timeoutMs = BLOCKED_MS, onBlocked }: LockWait = {},
): Promise<T> {
  const until = performance.now() + timeoutMs;
  const watch = new BlockerWatch(db, onBlocked);
  for (;;) {
    try {
      return await attempt(async (session, scope) => {
        await session.query(`select set_config('lock_timeout', $1, $2)`, [`${LOCK_MS}ms`, scope === 'local']);
        await watch.start(session);
      });
    } catch (error) {
      if (!isLockTimeout(error)) throw error;
      const pauseMs = PAUSE_MS * (1 + Math.random() / 2);
      if (performance.now() + pauseMs > until) {
        const by = watch.blockers ?? 'a session that could not be identified';
        throw new FeedctlError('SCHEMA_LOCKED', `the schema cannot be changed while it is locked by ${by}`, {
          cause: error,
        });
      }
      await watch.stop();
      await sleep(pauseMs);
    } finally {
      await watch.stop();
    }
  }
}

/** Returns whether the wait for a lock was too long, or was ended as a deadlock. */
function isLockTimeout(error: unknown): boolean {
  const { code } = ((error as Error).cause ?? error) as { code?: string };
  return code === '55P03' || code === '40P01';
}

/** Looks which sessions one session waits for. After a timeout the server no longer knows. */
class BlockerWatch {
  readonly #db: Database;
  readonly #onBlocked: LockWait['onBlocked'];
  #watching: Promise<void> | undefined;
  #stopping = new AbortController();
  blockers: string | undefined;

  constructor(db: Database, onBlocked: LockWait['onBlocked']) {
    this.#db = db;
    this.#onBlocked = onBlocked;
  }

  async start(session: Session): Promise<void> {
    const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
    this.#stopping = new AbortController();
    this.#watching = this.#watch(rows[0]!.pid, this.#stopping.signal).catch(() => {});
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
  }

  async #watch(pid: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(LOOK_INTERVAL_MS, undefined, { signal });
      const { rows } = await this.#db.query<Blocker>(BLOCKERS, [pid]);
      if (rows.length === 0) continue;
      const blockers = rows.map(nameOf).join(', ');
      if (blockers === this.blockers) continue;
      this.blockers = blockers;
      this.#onBlocked?.(blockers);
    }
  }
}
