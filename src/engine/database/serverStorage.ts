import { NODE_SIZES, SIZES, type Sizes } from './feedPartitions.ts';
import type { Store } from './sharding.ts';

/** A database server: its part of the feed rows, its size and its WAL. */
export interface ServerStorage {
  /** `host:port` on Citus, otherwise `database`. */
  readonly server: string;
  readonly sizes: Sizes;
  readonly databaseBytes: number;
  /** WAL that the server has written since its installation. */
  readonly walBytes: number;
  /** WAL that it may keep on its disk. */
  readonly walRoomBytes: number;
}

const figures = (sizes: string): string => `
  select json_build_object(
    'sizes', (${sizes}),
    'databaseBytes', pg_database_size(current_database()),
    'walBytes', pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'),
    'walRoomBytes', pg_size_bytes(current_setting('max_wal_size')))`;

const STATEMENTS = {
  postgres: {
    text: `select 'database' as server, true as success, (${figures(SIZES)})::text as result`,
    values: [],
  },
  citus: {
    text: `select nodename || ':' || nodeport as server, success, result
           from run_command_on_all_nodes($1) join pg_dist_node using (nodeid)`,
    values: [figures(NODE_SIZES)],
  },
};

/** Reads all servers with one query to each. Throws if one does not answer: sums would be wrong. */
export async function serverStorage(db: Store): Promise<ServerStorage[]> {
  const { text, values } = (await db.sharding()).pick(STATEMENTS);
  const { rows } = await db.query<{ server: string; success: boolean; result: string }>(text, values);
  return rows.map(({ server, success, result }) => {
    if (!success) throw new Error(`${server} does not report its size: ${result}`);
    return { server, ...(JSON.parse(result) as Omit<ServerStorage, 'server'>) };
  });
}
