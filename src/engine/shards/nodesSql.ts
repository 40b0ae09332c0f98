import { onEveryNode } from '../database/nodes.ts';
import type { Queryable } from '../database/types.ts';

/** Free capacity of a node for moves: background workers, and both ends of logical replication. */
export interface MoveCapacity {
  readonly workerProcesses: number;
  readonly logicalWorkers: number;
  readonly replicationSlots: number;
  readonly walSenders: number;
}

/**
 * One node of Citus with the settings that feedctl depends on. These are null if it did not answer.
 */
export interface CitusNode {
  readonly id: number;
  readonly host: string;
  readonly port: number;
  /** host:port, as in commands. */
  readonly name: string;
  readonly coordinator: boolean;
  readonly active: boolean;
  /** New shards go to this node, and a rebalance does not empty it. */
  readonly takesShards: boolean;
  readonly version: string | null;
  readonly walLevel: string | null;
  readonly preparedTransactions: number | null;
  readonly connections: number | null;
  readonly free: MoveCapacity | null;
}

/**
 * Returns one JSON object per node. Runs at each node. Counts every process as a background worker
 * unless it is one of the server's own: their names change less than those of extensions.
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
          'client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer',
          'checkpointer', 'walwriter', 'walsender', 'walreceiver', 'walsummarizer', 'startup', 'archiver',
          'logger', 'slotsync worker', 'io worker')),
      'logicalWorkers', current_setting('max_logical_replication_workers')::integer - (
        select count(*) from pg_stat_activity where backend_type like 'logical replication %worker'),
      'replicationSlots', current_setting('max_replication_slots')::integer - (
        select count(*) from pg_replication_slots),
      'walSenders', current_setting('max_wal_senders')::integer - (
        select count(*) from pg_stat_replication)))`;

/** Lists nodes, the coordinator first. */
const NODES = `
  select nodeid as id, nodename as host, nodeport as port, nodename || ':' || nodeport as name,
         groupid = 0 as coordinator, isactive and metadatasynced as active,
         shouldhaveshards as "takesShards"
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
