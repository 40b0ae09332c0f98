import type { Bus } from '../bus/bus.ts';
import { Database, type Session } from '../database/database.ts';
import { checkSessionsKept, checkWritable } from '../database/usable.ts';
import type { Identity } from '../identity/identity.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import { DATABASE_NOW, type DatabaseClock } from '../store/databaseClock.ts';
import type { IdSource } from '../store/idLeases.ts';

const CONNECT_MS = 3_000;
/** Maximum time of a check at the database. */
export const CHECK_TIMEOUT_MS = 5_000;

interface Dependencies {
  readonly db: Pick<Database, 'server'>;
  readonly bus?: Pick<Bus, 'kind' | 'health'>;
  readonly ids?: Pick<IdSource, 'checkClock'>;
  readonly identity?: Pick<Identity, 'confirm'> | undefined;
  readonly clock?: DatabaseClock;
  /** Throws CLUSTER_DIFFERS if the cluster uses other servers than this process. */
  readonly checkComponents?: ((session: Session) => Promise<void>) | undefined;
}

export interface Readiness {
  /**
   * `freshMs`: maximum age of an answer of the database that will do. Default: it is asked now.
   * Throws DATABASE_UNREACHABLE or another DATABASE_ code, TIMED_OUT, CLUSTER_DIFFERS, CLOCK_OFF,
   * CLOCK_BEHIND, BROKER_UNREACHABLE or another BROKER_ code.
   */
  check(options?: { freshMs?: number }): Promise<void>;
  /** The last check found that the cluster uses other servers. */
  readonly differs: boolean;
  close(): Promise<void>;
}

/**
 * Checks that a process can work: its database is that of its cluster, can write and keeps sessions, its
 * clock is right, and its broker, if it needs one, takes messages. Whether connections keep their sessions is
 * checked again when the server's process is another one. All roles of a process share one, which opens its
 * session at the first check: a busy role may use all other sessions and is ready nevertheless. Calls during
 * a check of the database share its answer.
 */
export function openReadiness({ db, bus, ids, identity, clock, checkComponents }: Dependencies): Readiness {
  const session = new Database(db.server, {
    maxSessions: 1,
    connectMs: CONNECT_MS,
    applicationName: 'feedctl readiness',
  });
  /** Process of the server at which connections were found to keep their sessions. */
  let keptBy: number | undefined;
  const checkDatabaseNow = async () => {
    const pid = await session.withSession(
      async (one) => {
        // A confirmed session can write too. Its database may have become another cluster's meanwhile.
        if (identity) await identity.confirm(one, db.server.current);
        else await checkWritable(one, db.server.current);
        await checkComponents?.(one);
        const look = () =>
          one.query<{ pid: number; now: number }>(`select pg_backend_pid() as pid, ${DATABASE_NOW} as now`);
        const { rows } = await (clock ? clock.measure(look, (answer) => answer.rows[0]?.now) : look());
        return rows[0]!.pid;
      },
      { deadlineMs: CHECK_TIMEOUT_MS },
    );
    if (pid !== keptBy) {
      await checkSessionsKept(db.server);
      keptBy = pid;
    }
  };
  let current: Promise<void> | undefined;
  let answeredAt = Number.POSITIVE_INFINITY;
  let differs = false;
  const checkDatabase = (freshMs: number) => {
    // A running check is shared: its time of answer is infinite until it ends.
    if (current && performance.now() - answeredAt < freshMs) return current;
    answeredAt = Number.POSITIVE_INFINITY;
    current = checkDatabaseNow()
      .then(
        () => {
          differs = false;
        },
        (error) => {
          differs = isFeedctlError(error, 'CLUSTER_DIFFERS');
          throw error;
        },
      )
      .finally(() => {
        answeredAt = performance.now();
      });
    return current;
  };
  return {
    async check({ freshMs = 0 } = {}) {
      await checkDatabase(freshMs);
      ids?.checkClock();
      const health = await bus?.health?.();
      if (health && !health.ready) throw new FeedctlError(health.code ?? 'BROKER_UNREACHABLE', health.detail);
    },
    get differs() {
      return differs;
    },
    close: () => session.close(),
  };
}
