import { FeedctlError } from '../model/errors.ts';
import type { Database } from './database.ts';
import { citusVersion } from './sharding.ts';
import type { Queryable } from './types.ts';

/** `citus`: the database must have the extension. `postgres`: the extension is not used. */
export type StoreSetting = 'citus' | 'postgres' | undefined;

/**
 * Distributed tables with their distribution columns. All are colocated, so the rows that one post
 * or one follow writes are in one shard. Other tables stay on the coordinator.
 */
const DISTRIBUTED = {
  users: 'id',
  posts: 'author_id',
  follows: 'follower_id',
  followers: 'followee_id',
  feed_items: 'user_id',
  events: 'aggregate_id',
  idempotency_keys: 'author_id',
} as const;
/** Every node has a copy, so that feeds join it locally. */
const REFERENCE = 'celebrities';

const LOCK = `hashtext('feedctl distribution')`;

/**
 * Returns the distribution of each table, in the given order. In: tables, their distribution
 * columns.
 */
const STATE = `
  select t.name, p.partmethod::text as method, p.colocationid as colocation,
         column_to_column_name(p.logicalrelid, p.partkey) as column, t.key
  from unnest($1::text[], $2::text[]) with ordinality t(name, key, nth)
  left join pg_dist_partition p on p.logicalrelid = to_regclass(t.name) order by t.nth`;

interface TableState {
  readonly name: string;
  readonly method: string | null;
  readonly colocation: number | null;
  readonly column: string | null;
  readonly key: string;
}

async function tableStates(db: Queryable): Promise<TableState[]> {
  const { rows } = await db.query<TableState>(STATE, [
    [...Object.keys(DISTRIBUTED), REFERENCE],
    [...Object.values(DISTRIBUTED), ''],
  ]);
  return rows;
}

/**
 * Returns tables that are not distributed yet. Throws CITUS_MISSING, or DISTRIBUTION_WRONG for a
 * different distribution.
 */
export async function pendingTables(db: Queryable, store: StoreSetting): Promise<string[]> {
  if (store === 'postgres') return [];
  if ((await citusVersion(db)) === undefined) {
    if (store === 'citus') throw citusMissing();
    return [];
  }
  const states = await tableStates(db);
  const colocation = states.find((state) => state.method === 'h')?.colocation;
  const pending: string[] = [];
  for (const { name, method, column, key, ...state } of states) {
    if (method === null) {
      pending.push(name);
      continue;
    }
    const right =
      name === REFERENCE
        ? method === 'n'
        : method === 'h' && column === key && state.colocation === colocation;
    if (!right) {
      throw new FeedctlError(
        'DISTRIBUTION_WRONG',
        `the table ${name} is distributed ${column ? `by ${column}` : 'otherwise'}, ` +
          'or not colocated with the others',
      );
    }
  }
  return pending;
}

const citusMissing = () =>
  new FeedctlError('CITUS_MISSING', 'the store is set to citus, and the database lacks the extension');

/**
 * Distributes the tables of a migrated database over the nodes of Citus, with `citus.shard_count`
 * shards and one copy of each. Existing rows move too. Tables are distributed one at a time, so a
 * later call resumes an interrupted one. Returns the tables. Throws as `pendingTables`.
 */
export async function distribute(db: Database, store: StoreSetting): Promise<string[]> {
  if ((await pendingTables(db, store)).length === 0) return [];
  return db.withSession(async (session) => {
    await session.query(`select pg_advisory_lock(${LOCK})`);
    try {
      const pending = await pendingTables(session, store);
      await session.query('set citus.shard_replication_factor = 1');
      for (const name of pending) {
        const key = DISTRIBUTED[name as keyof typeof DISTRIBUTED];
        if (key === undefined) await session.query('select create_reference_table($1)', [name]);
        else if (name === 'users')
          await session.query(`select create_distributed_table($1, $2, colocate_with => 'none')`, [
            name,
            key,
          ]);
        else
          await session.query(`select create_distributed_table($1, $2, colocate_with => 'users')`, [
            name,
            key,
          ]);
      }
      return pending;
    } finally {
      await session.query('reset citus.shard_replication_factor').catch(() => {});
      await session.query(`select pg_advisory_unlock(${LOCK})`).catch(() => {});
    }
  });
}
