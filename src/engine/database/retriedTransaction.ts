import { SYSTEM_RETRIES } from '../resilience/limits.ts';
import { retry } from '../resilience/retry.ts';
import type { Database } from './database.ts';
import type { Session } from './types.ts';

/**
 * One transaction of long work that goes through feeds while others write them: again where it failed in a way that
 * passes, as a deadlock does. `work` begins anew each time.
 */
export const retriedTransaction = <T>(db: Database, work: (session: Session) => Promise<T>): Promise<T> =>
  retry(() => db.transaction(work), { ...SYSTEM_RETRIES, dependency: 'database' });
