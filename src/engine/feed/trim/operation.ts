import type { FeedChanges } from '../../cache/changes.ts';
import type { Database } from '../../database/database.ts';
import { runOperation, saveProgress, type Work } from '../../operations/run.ts';
import { type TrimProgress, type TrimResult, trim } from './trim.ts';

export interface TrimAllOptions {
  /** Rows to keep in each feed. */
  readonly keep: number;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (users: number, items: number) => void;
  readonly onResume?: Work['onResume'];
}

/**
 * Trims every feed as an operation. A later run resumes after the last feed that was done, and its
 * counts include all runs. Throws OPERATION_RUNNING, OPERATION_CANCELLED or INTERRUPTED.
 */
export async function trimAll(
  { db, changes }: { db: Database; changes: FeedChanges },
  { onResume, signal, ...options }: TrimAllOptions,
): Promise<TrimResult> {
  const trimOptions = { ...options, changes };
  if (options.dryRun) return trim(db, undefined, { ...trimOptions, ...(signal && { signal }) });
  const work = { kind: 'trim', key: `keep ${options.keep}`, signal, onResume };
  return runOperation<TrimProgress, TrimResult>(db, work, ({ id, progress, signal: stop }) =>
    trim(db, undefined, {
      ...trimOptions,
      signal: stop,
      earlier: progress,
      save: (now) => saveProgress(db, id, now, { done: now.users, unit: 'feeds' }),
    }),
  );
}
