import { setTimeout as sleep } from 'node:timers/promises';
import { FeedctlError } from '../model/errors.ts';
import type { Database } from './database.ts';
import type { LockWait } from './shortLocks.ts';
import type { Queryable } from './types.ts';

/** An index of a table that may be big. */
export interface OnlineIndex {
  readonly name: string;
  readonly table: string;
  /** Columns and condition, as `create index` takes them. */
  readonly definition: string;
}

const POLL_MS = 200;
const TIMEOUT_MS = 600_000;

/**
 * Builds an index while rows are written. The migration that has the index then finds it: inside a
 * transaction, the build would hold up every new row. Does nothing if the table does not exist yet. An index
 * that an earlier attempt has left half built is replaced. Throws SCHEMA_LOCKED if transactions that began
 * before stay open for longer than `wait`.
 */
export async function buildIndexOnline(db: Database, index: OnlineIndex, wait: LockWait = {}): Promise<void> {
  const { timeoutMs = TIMEOUT_MS } = wait;
  const { name, table, definition } = index;
  await db.withSession(async (session) => {
    // A process that waits for the lock inside of a statement would hold up the build itself.
    while (!(await tryLock(session, name))) await sleep(POLL_MS);
    try {
      const state = await stateOf(session, index);
      if (state === 'no table' || state === 'valid') return;
      await session.query(`select set_config('lock_timeout', $1, false)`, [`${Math.max(1, timeoutMs)}ms`]);
      if (state === 'invalid') await session.query(`drop index concurrently ${name}`);
      await session.query(`create index concurrently ${name} on ${table} ${definition}`);
    } catch (error) {
      if ((error as { code?: string }).code !== '55P03') throw error;
      throw new FeedctlError(
        'SCHEMA_LOCKED',
        `the index ${name} cannot be built while older transactions are open`,
        { cause: error },
      );
    } finally {
      await session.query('reset lock_timeout').catch(() => {});
      await session.query('select pg_advisory_unlock(hashtext($1))', [name]).catch(() => {});
    }
  });
}

async function tryLock(db: Queryable, name: string): Promise<boolean> {
  const { rows } = await db.query<{ mine: boolean }>('select pg_try_advisory_lock(hashtext($1)) as mine', [
    name,
  ]);
  return rows[0]!.mine;
}

async function stateOf(
  db: Queryable,
  { name, table }: OnlineIndex,
): Promise<'no table' | 'missing' | 'invalid' | 'valid'> {
  const { rows } = await db.query<{ table: string | null; valid: boolean | null }>(
    `select to_regclass($1)::text as table,
            (select indisvalid from pg_index where indexrelid = to_regclass($2)) as valid`,
    [table, name],
  );
  const { table: found, valid } = rows[0]!;
  if (found === null) return 'no table';
  if (valid === null) return 'missing';
  return valid ? 'valid' : 'invalid';
}
