import { FeedctlError } from '../model/errors.ts';
import type { Database } from './database.ts';
import { citusVersion } from './sharding.ts';
import type { Queryable } from './types.ts';

/** `citus`: the database has to have the extension. `postgres`: the extension is not used. */
export type StoreSetting = 'citus' | 'postgres' | undefined;

/**
 * Every distributed table with the column that says where a row is. All are colocated, so what one author's post
 * or one follower's follow writes is in one shard. What is not listed stays on the coordinator.
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
/** A copy on every node: feeds join it locally. */
const REFERENCE = 'celebrities';

const LOCK = `hashtext('feedctl distribution')`;

/** How tables are distributed, if at all, in the order asked for. In: tables, the columns they should go by. */
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

/** Tables to be distributed yet. Throws CITUS_MISSING, or DISTRIBUTION_WRONG where one is distributed otherwise. */
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
        `the table ${name} is distributed ${column ? `by ${column}` : 'otherwise'}, or not colocated with the others`,
      );
    }
  }
  return pending;
}

const citusMissing = () =>
  new FeedctlError('CITUS_MISSING', 'the store is set to be Citus, and the database lacks the extension');

/**
 * Distributes the tables of a migrated database over the nodes of Citus, `citus.shard_count` shards, one copy of
 * each. Rows that are there move along. A table at a time: cut off, it goes on where it was. Returns the tables.
 * Throws as `pendingTables`.
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
