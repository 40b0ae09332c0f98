import { SYSTEM_RETRIES } from '../resilience/limits.ts';
import { retry } from '../resilience/retry.ts';
import type { Database } from './database.ts';
import type { Session } from './types.ts';

/**
 * Runs one transaction of long work on feeds that others write concurrently. Retries transient
 * failures such as deadlocks. `work` starts over each time.
 */
export const retriedTransaction = <T>(db: Database, work: (session: Session) => Promise<T>): Promise<T> =>
  retry(() => db.transaction(work), { ...SYSTEM_RETRIES, dependency: 'database' });
