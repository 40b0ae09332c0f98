import type { Invocation } from '../model/operation.ts';
import { openGuard } from '../resilience/guard.ts';
import { DATABASE_REQUESTS, DATABASE_WORK, REQUEST_RETRIES } from '../resilience/limits.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { ServerUrl } from '../util/serverUrl.ts';
import { Database } from './database.ts';

/**
 * Opens sessions for a role's own work. Failed work is requeued, or repeated at the next interval.
 */
export function openWorkPool(url: string | ServerUrl, metrics?: Metrics, invocation?: Invocation): Database {
  const { sessions, waiting, idleTransactionMs, deadlineMs } = DATABASE_WORK;
  const guard = openGuard({ dependency: 'database', metrics, probe: () => db.ping() });
  const db: Database = new Database(url, {
    maxSessions: sessions,
    sessionSettings: { idle_in_transaction_session_timeout: String(idleTransactionMs) },
    waiting,
    writable: true,
    keepPlans: true,
    deadlineMs,
    guard,
    metrics,
    name: 'work',
    invocation,
  });
  return db;
}

/**
 * Opens sessions for users' requests: short ones with retries. They are apart from the work, so
 * that neither starves the other.
 */
export function openRequestPool(url: string | ServerUrl, metrics?: Metrics): Database {
  const { sessions, waiting, connectMs, statementMs, lockMs, deadlineMs, slowMs } = DATABASE_REQUESTS;
  const guard = openGuard({
    dependency: 'database',
    name: 'database_requests',
    metrics,
    slowMs,
    probe: () => db.ping(),
  });
  const db: Database = new Database(url, {
    maxSessions: sessions,
    sessionSettings: { statement_timeout: String(statementMs), lock_timeout: String(lockMs) },
    retry: REQUEST_RETRIES,
    waiting,
    writable: true,
    keepPlans: true,
    connectMs,
    deadlineMs,
    guard,
    metrics,
    name: 'requests',
  });
  return db;
}
