import type { Queryable } from '../database/types.ts';

/** What is left of a node's limits for what moves shards: background workers, and the two ends of logical replication. */
export interface MoveCapacity {
  readonly workerProcesses: number;
  readonly logicalWorkers: number;
  readonly replicationSlots: number;
  readonly walSenders: number;
}

/** One node of Citus with the settings that feedctl depends on; null where it did not answer. */
export interface CitusNode {
  readonly id: number;
  readonly host: string;
  readonly port: number;
  /** host:port, what commands call it. */
  readonly name: string;
  readonly coordinator: boolean;
  readonly active: boolean;
  /** New shards go there, and a rebalance does not empty it. */
  readonly takesShards: boolean;
  readonly version: string | null;
  readonly walLevel: string | null;
  readonly preparedTransactions: number | null;
  readonly connections: number | null;
  readonly free: MoveCapacity | null;
}

/**
 * In: nothing; runs at each node. Out: one JSON object. A background worker is whatever is none of the server's own
 * processes: what they are called changes less than what extensions call theirs.
 */
const SETTINGS = `
  select json_build_object(
    'version', split_part(current_setting('server_version'), ' ', 1),
    'walLevel', current_setting('wal_level'),
    'preparedTransactions', current_setting('max_prepared_transactions')::integer,
    'connections', current_setting('max_connections')::integer,
    'free', json_build_object(
      'workerProcesses', current_setting('max_worker_processes')::integer - (
        select count(*) from pg_stat_activity where backend_type not in (
          'client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer', 'checkpointer', 'walwriter',
          'walsender', 'walreceiver', 'walsummarizer', 'startup', 'archiver', 'logger', 'slotsync worker', 'io worker')),
      'logicalWorkers', current_setting('max_logical_replication_workers')::integer - (
        select count(*) from pg_stat_activity where backend_type like 'logical replication %worker'),
      'replicationSlots', current_setting('max_replication_slots')::integer - (select count(*) from pg_replication_slots),
      'walSenders', current_setting('max_wal_senders')::integer - (select count(*) from pg_stat_replication)))`;

/** In: nothing. The coordinator first. */
const NODES = `
  select nodeid as id, nodename as host, nodeport as port, nodename || ':' || nodeport as name, groupid = 0 as coordinator,
         isactive and metadatasynced as active, shouldhaveshards as "takesShards"
  from pg_dist_node where noderole = 'primary' order by groupid, nodeid`;

type Settings = Pick<CitusNode, 'version' | 'walLevel' | 'preparedTransactions' | 'connections' | 'free'>;

const SILENT: Settings = {
  version: null,
  walLevel: null,
  preparedTransactions: null,
  connections: null,
  free: null,
};

export async function citusNodes(db: Queryable): Promise<CitusNode[]> {
  const { rows } = await db.query<Omit<CitusNode, keyof Settings>>(NODES);
  const settings = await onEveryNode<Settings>(db, SETTINGS);
  return rows.map((node) => ({ ...node, ...(settings.get(node.id) ?? SILENT) }));
}

/** Runs a statement whose answer is one JSON value at every node. Nodes that do not answer are not in the result. */
export async function onEveryNode<T>(db: Queryable, statement: string): Promise<Map<number, T>> {
  const { rows } = await db.query<{ nodeid: number; result: string }>(
    'select nodeid, result from run_command_on_all_nodes($1) where success',
    [statement],
  );
  return new Map(rows.map(({ nodeid, result }) => [nodeid, JSON.parse(result) as T]));
}
