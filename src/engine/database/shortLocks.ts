import { setTimeout as sleep } from 'node:timers/promises';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { DATABASE_WORK } from '../resilience/limits.ts';
import { BlockerWatch } from './blockers.ts';
import type { Database } from './database.ts';
import { citusVersion } from './sharding.ts';
import type { Session } from './types.ts';

/** Maximum wait for one lock: statements of others queue behind it that long. */
const LOCK_MS = 300;
/** Pause after an attempt, plus up to half of it, so that statements of others are not held up again. */
const PAUSE_MS = 2_000;
/** A change of the schema waits this long for other sessions in all. */
const BLOCKED_MS = 600_000;

export interface LockWait {
  /** No attempt begins later. Default: 10 minutes. */
  readonly timeoutMs?: number | undefined;
  /** Runs with the names of the sessions that hold the lock, whenever they are others than before. */
  readonly onBlocked?: ((blockers: string) => void) | undefined;
}

/** Limits the wait for each lock in a session, or in its transaction (`local`). */
export type LimitLocks = (session: Session, scope: 'session' | 'local') => Promise<void>;

/**
 * Runs a change of the schema that never makes other statements wait long. A lock that another session
 * holds is waited for briefly, because later statements queue behind that wait. Then the attempt is
 * rolled back and repeated after a pause. So is one that meets a move of shards, which Citus refuses.
 * `attempt` passes its session to `limit` before it takes locks. Throws SCHEMA_LOCKED with the sessions in
 * the way.
 */
export async function withShortLocks<T>(
  db: Database,
  attempt: (limit: LimitLocks) => Promise<T>,
  { timeoutMs = BLOCKED_MS, onBlocked }: LockWait = {},
): Promise<T> {
  const until = performance.now() + timeoutMs;
  const watch = new BlockerWatch(db, onBlocked);
  for (;;) {
    const notices = new LockNotices();
    try {
      return await attempt(async (session, scope) => {
        notices.listen(session);
        const onCitus = (await citusVersion(session)) !== undefined;
        await limitLocks(session, scope, onCitus);
        await watch.start(session, { onCitus });
      });
    } catch (error) {
      const moving = isMoveOfShards(error);
      if (!isLockTimeout(error) && !moving && !notices.heard) throw error;
      const pauseMs = PAUSE_MS * (1 + Math.random() / 2);
      if (performance.now() + pauseMs > until) {
        const unknown = moving ? 'a move of shards' : 'a session that could not be identified';
        throw new FeedctlError(
          'SCHEMA_LOCKED',
          `the schema cannot be changed while it is locked by ${watch.blockers ?? unknown}`,
          { cause: error },
        );
      }
      await watch.stop();
      await sleep(pauseMs);
    } finally {
      notices.stop();
      await watch.stop();
    }
  }
}

/**
 * The nodes of Citus take their own locks, each with its own limit. Without one there, the wait for a session
 * at a node would hold up all statements through the coordinator, for as long as that session likes.
 */
async function limitLocks(session: Session, scope: 'session' | 'local', onCitus: boolean): Promise<void> {
  const local = scope === 'local';
  await session.query(`select set_config('lock_timeout', $1, $2)`, [`${LOCK_MS}ms`, local]);
  if (!local) return;
  // A process that is stopped between two statements keeps its locks no longer. A node may well be idle
  // for longer, while others work on a statement.
  await session.query(`select set_config('idle_in_transaction_session_timeout', $1, true)`, [
    String(DATABASE_WORK.idleTransactionMs),
  ]);
  if (!onCitus) return;
  await session.query(`set local citus.propagate_set_commands = 'local'`);
  await session.query(`set local lock_timeout = '${LOCK_MS}ms'`);
}

/** SQLSTATEs of a wait for a lock that was too long, or was ended as a deadlock. */
const LOCK_CODES: ReadonlySet<string | undefined> = new Set(['55P03', '40P01']);

function isLockTimeout(error: unknown): boolean {
  const { code } = ((error as Error).cause ?? error) as { code?: string };
  return LOCK_CODES.has(code);
}

/** Citus refuses new parts of distributed tables while it moves a shard, without a wait and a SQLSTATE. */
function isMoveOfShards(error: unknown): boolean {
  return messageOf((error as Error).cause ?? error).startsWith('could not acquire the lock required to ');
}

/**
 * Hears why a node has refused. Citus sends that as a warning before the error, which only says that a
 * connection has failed.
 */
class LockNotices {
  #session: Session | undefined;
  heard = false;

  listen(session: Session): void {
    this.stop();
    this.#session = session.on('notice', this.#onNotice);
  }

  stop(): void {
    this.#session?.off('notice', this.#onNotice);
  }

  readonly #onNotice = ({ code }: { code?: string | undefined }): void => {
    if (LOCK_CODES.has(code)) this.heard = true;
  };
}
