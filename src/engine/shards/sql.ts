import type { Database } from '../database/database.ts';
import { onEveryNode } from '../database/nodes.ts';
import type { Queryable } from '../database/types.ts';
import { messageOf } from '../model/errors.ts';

/**
 * Unit of a move: the rows of one range of hashes in every table, as all are colocated. Its id is
 * that of its part of `users`.
 */
export interface ShardGroup {
  readonly shard: number;
  /** Ids of its parts in all tables. */
  readonly shardIds: readonly number[];
  readonly nodeId: number;
  readonly node: string;
  /** Size with indexes. Null if the node does not answer. */
  readonly bytes: number | null;
  /** Estimate from the node's statistics. */
  readonly rows: number | null;
}

/** Returns the groups with their nodes, in the order of their hashes. */
const GROUPS = `
  select min(s.shardid) filter (where s.logicalrelid = to_regclass('users')) as shard,
         json_agg(s.shardid) as "shardIds",
         n.nodeid as "nodeId", n.nodename || ':' || n.nodeport as node
  from pg_dist_partition t join pg_dist_shard s using (logicalrelid) join pg_dist_placement p using (shardid)
  join pg_dist_node n on n.groupid = p.groupid and n.noderole = 'primary'
  where t.colocationid = (
    select colocationid from pg_dist_partition where logicalrelid = to_regclass('users'))
  group by s.shardminvalue, n.nodeid, n.nodename, n.nodeport order by s.shardminvalue::integer`;

/** Returns bytes and rows by shard id. Runs at each node. */
const SIZES = `
  select coalesce(json_object_agg(s.shardid,
    json_build_array(coalesce(pg_total_relation_size(c.oid), 0),
                     coalesce(pg_stat_get_live_tuples(c.oid), 0))), '{}')
  from pg_dist_placement p join pg_dist_shard s using (shardid)
  join pg_class c on c.oid = to_regclass(shard_name(s.logicalrelid, s.shardid))
  where p.groupid = (select groupid from pg_dist_local_group)`;

export async function readShards(db: Queryable): Promise<ShardGroup[]> {
  const { rows } = await db.query<Omit<ShardGroup, 'bytes' | 'rows'>>(GROUPS);
  const sizes = await onEveryNode<Record<string, [bytes: number, rows: number]>>(db, SIZES);
  return rows.map((group) => {
    const sizesOfNode = sizes.get(group.nodeId);
    const sum = (nth: 0 | 1) =>
      sizesOfNode ? group.shardIds.reduce((total, id) => total + (sizesOfNode[id]?.[nth] ?? 0), 0) : null;
    return { ...group, bytes: sum(0), rows: sum(1) };
  });
}

/** Move of one shard between two nodes. */
export interface PlannedMove {
  readonly shardId: number;
  readonly from: string;
  readonly to: string;
}

/**
 * Returns the plan of Citus's own dry run, with the part of `users` for each group. In: empty only
 * nodes that take no shards.
 */
const PLAN = `
  select shardid as "shardId", sourcename || ':' || sourceport as from, targetname || ':' || targetport as to
  from get_rebalance_table_shards_plan(drain_only => $1) where table_name = to_regclass('users')`;

/** Returns the moves of a rebalance. `drain`: as if that node took no shards. */
export async function readPlan(
  db: Database,
  options: { drain?: { host: string; port: number }; drainOnly: boolean },
): Promise<PlannedMove[]> {
  return db.rehearse(async (session) => {
    if (options.drain) await setTakesShards(session, options.drain, false);
    return (await session.query<{ shardId: number; from: string; to: string }>(PLAN, [options.drainOnly]))
      .rows;
  });
}

export async function setTakesShards(
  db: Queryable,
  node: { host: string; port: number },
  takes: boolean,
): Promise<void> {
  await db.query(`select citus_set_node_property($1, $2, 'shouldhaveshards', $3)`, [
    node.host,
    node.port,
    takes,
  ]);
}

/** Starts a rebalance job of Citus. Returns undefined if no shard has to move. */
export async function startRebalance(db: Queryable, drainOnly: boolean): Promise<number | undefined> {
  const { rows } = await db.query<{ job: number | null }>(
    'select citus_rebalance_start(drain_only => $1) as job',
    [drainOnly],
  );
  return rows[0]!.job ?? undefined;
}

/** Cancels a job. Finished moves stay, and the active one is undone. */
export async function cancelJob(db: Queryable, job: number): Promise<void> {
  await db.query('select citus_job_cancel($1)', [job]);
}

/** Cancels the statement of a session, as Ctrl-C in it would. */
export async function cancelStatement(db: Queryable, pid: number): Promise<void> {
  await db.query('select pg_cancel_backend($1::integer)', [pid]);
}

export async function moveShard(
  db: Queryable,
  move: { shard: number; fromNode: number; toNode: number },
): Promise<void> {
  // A rebalance copies `celebrities` to a new node with its first shard, but a single move does
  // not. The table is small. Copying it while writes are blocked needs no replication slot, which
  // would wait for transactions elsewhere.
  await db.query(`select replicate_reference_tables('block_writes')`);
  await db.query('select citus_move_shard_placement($1::bigint, $2::integer, $3::integer)', [
    move.shard,
    move.fromNode,
    move.toNode,
  ]);
}

/**
 * Returns whether Citus has refused a move because partitions were made or removed meanwhile: it does not
 * wait for one that is being made, and misses one that was removed while it waited. Such errors have no
 * SQLSTATE.
 */
export function isBesideTableChange(error: unknown): boolean {
  return /^could not (acquire the lock required to|find valid entry for shard|open relation with OID) /.test(
    messageOf((error as Error).cause ?? error),
  );
}

/** Returns tables that logical replication cannot move while they are written to. */
const WITHOUT_IDENTITY = `
  select t.logicalrelid::text as name from pg_dist_partition t join pg_class c on c.oid = t.logicalrelid
  where t.partmethod in ('h', 'n') and c.relkind <> 'p' and not (
    c.relreplident in ('f', 'i') or
    c.relreplident = 'd' and exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary))
  order by 1`;

export async function tablesWithoutIdentity(db: Queryable): Promise<string[]> {
  return (await db.query<{ name: string }>(WITHOUT_IDENTITY)).rows.map((row) => row.name);
}

export type JobState =
  | 'scheduled'
  | 'running'
  | 'finished'
  | 'cancelling'
  | 'cancelled'
  | 'failing'
  | 'failed';

export interface Job {
  readonly id: number;
  readonly state: JobState;
  readonly description: string;
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
  /** A process of Citus works on the job queue at this moment. */
  readonly attended: boolean;
}

/** Returns a job. In: its id, or null for the newest one that moves shards. */
const JOB = `
  select job_id as id, state::text, description, started_at as "startedAt", finished_at as "finishedAt",
         exists (select from pg_stat_activity where datname = current_database()
                 and backend_type like 'Citus Background Task Queue %') as attended
  from pg_dist_background_job where job_id = $1 or ($1::bigint is null and job_type = 'rebalance')
  order by job_id desc limit 1`;

export async function readJob(db: Queryable, id?: number): Promise<Job | undefined> {
  return (await db.query<Job & Record<string, unknown>>(JOB, [id ?? null])).rows[0];
}

/** Returns jobs of any kind that have not ended. */
const OPEN_JOBS = `
  select job_id as id, description from pg_dist_background_job
  where state in ('scheduled', 'running', 'cancelling', 'failing') order by job_id`;

export async function openJobs(db: Queryable): Promise<{ id: number; description: string }[]> {
  return (await db.query<{ id: number; description: string }>(OPEN_JOBS)).rows;
}

export type TaskState =
  | 'blocked'
  | 'runnable'
  | 'running'
  | 'done'
  | 'cancelling'
  | 'error'
  | 'unscheduled'
  | 'cancelled';

/** One statement of a job. */
export interface Task {
  readonly state: TaskState;
  /**
   * The move of this task. Null for other tasks, such as copying reference tables to a new node.
   */
  readonly move: { readonly shardId: number; readonly fromNode: number; readonly toNode: number } | null;
  readonly command: string;
  readonly pid: number | null;
  /** Number of failures. */
  readonly failures: number;
  readonly message: string;
  readonly notBefore: Date | null;
  /** Time of the current wait for a lock, and the processes of the coordinator that hold it. */
  readonly waitingSeconds: number | null;
  readonly blockers: readonly number[] | null;
}

/** In: a job. */
const TASKS = `
  select t.status::text as state, t.command, t.pid, coalesce(t.retry_count, 0) as failures, t.message,
         t.not_before as "notBefore", pg_blocking_pids(t.pid) as blockers,
         (select extract(epoch from clock_timestamp() - min(l.waitstart))::float8 from pg_locks l
          where l.pid = t.pid and not l.granted) as "waitingSeconds"
  from pg_dist_background_task t where t.job_id = $1 order by t.task_id`;

export async function readTasks(db: Queryable, job: number): Promise<Task[]> {
  const { rows } = await db.query<Omit<Task, 'move'>>(TASKS, [job]);
  return rows.map((task) => {
    const [, shardId, fromNode, toNode] =
      /citus_move_shard_placement\((\d+),(\d+),(\d+),/.exec(task.command)?.map(Number) ?? [];
    return { ...task, move: shardId ? { shardId, fromNode: fromNode!, toNode: toNode! } : null };
  });
}

/** An active move, started by any session. */
export interface ActiveMove {
  /** Process of the coordinator that runs the move. */
  readonly pid: number;
  readonly shardIds: readonly number[];
  readonly from: string;
  readonly to: string;
  /**
   * For instance "Copying Data". `unknown` if the progress cannot be read, and then both places are
   * too.
   */
  readonly phase: string;
  /** Bytes at the target. */
  readonly bytes: number;
}

/**
 * Returns the processes that move shards of this database, and whether any moves shards of another
 * one. Citus stores its progress like that of `vacuum`, under its own number
 * (progress/multi_progress.c).
 */
const MOVERS = `
  select coalesce(array_agg(pid) filter (where datid = this), '{}') as own,
         coalesce(bool_or(datid <> this), false) as "others"
  from pg_stat_get_progress_info('VACUUM'),
       (select oid as this from pg_database where datname = current_database()) d
  where param1 = 1337`;

/**
 * Returns the progress of moves. In: processes. Asks every node that takes part in a move, also for
 * other databases of the coordinator.
 */
const ACTIVE = `
  select sessionid as pid, json_agg(shardid) as "shardIds", sourcename || ':' || sourceport as from,
         targetname || ':' || targetport as to, min(status) as phase,
         coalesce(sum(target_shard_size), 0)::bigint as bytes
  from get_rebalance_progress() where progress = 1 and sessionid = any($1)
  group by sessionid, sourcename, sourceport, targetname, targetport`;

/**
 * Returns moves of this database. They are `unknown` if moves of another database prevent Citus
 * from reporting their progress.
 */
export async function readActiveMoves(db: Queryable): Promise<ActiveMove[]> {
  const { own, others } = (await db.query<{ own: number[]; others: boolean }>(MOVERS)).rows[0]!;
  if (own.length === 0) return [];
  try {
    return (await db.query<ActiveMove & Record<string, unknown>>(ACTIVE, [own])).rows;
  } catch (error) {
    // Citus measures the shards of other databases as if they were in this one, and fails.
    if (!others) throw error;
    const unknown = { shardIds: [], from: 'unknown', to: 'unknown', phase: 'unknown', bytes: 0 };
    return own.map((pid) => ({ pid, ...unknown }));
  }
}

/** Remains of a move at a node. */
export interface Leftover {
  readonly node: string;
  readonly kind: string;
  readonly name: string;
}

/**
 * Returns objects that Citus has scheduled to drop, without those of active operations. Each active
 * operation holds an advisory lock of class 10 with its number.
 */
const LEFTOVERS = `
  select coalesce(n.nodename || ':' || n.nodeport, 'group ' || c.node_group_id) as node,
         c.object_name as name,
         coalesce((array['shard', 'subscription', 'replication slot', 'publication', 'user',
                         'database'])[c.object_type], 'object') as kind
  from pg_dist_cleanup c left join pg_dist_node n on n.groupid = c.node_group_id and n.noderole = 'primary'
  where not exists (
    select from pg_locks l where l.locktype = 'advisory' and l.objsubid = 10 and l.granted
    and l.classid::bigint = c.operation_id >> 32 and l.objid::bigint = c.operation_id & 4294967295)
  order by c.record_id`;

export async function readLeftovers(db: Queryable): Promise<Leftover[]> {
  return (await db.query<{ node: string; kind: string; name: string }>(LEFTOVERS)).rows;
}

/**
 * Returns tables with names of shards that belong to no shard of this node in the catalog. Runs at
 * each node. A client that names such a table reads and writes rows that no other client sees.
 */
const STRAY = `
  select coalesce(json_agg(distinct c.oid::regclass::text), '[]')
  from pg_class c join pg_class t on c.relname ~ ('^' || t.relname || '(_[0-9]+)+$')
  join pg_dist_partition p on p.logicalrelid = t.oid
  where c.relkind in ('r', 'p') and not exists (select from pg_dist_partition d where d.logicalrelid = c.oid)
  and not exists (
    select from pg_dist_placement p join pg_dist_shard s using (shardid)
    where p.groupid = (select groupid from pg_dist_local_group)
    and to_regclass(shard_name(s.logicalrelid, s.shardid)) = c.oid)`;

/** Returns all objects to drop at the end of operations, including active ones. */
const SCHEDULED = `
  select n.nodeid as node, c.object_name as name from pg_dist_cleanup c
  join pg_dist_node n on n.groupid = c.node_group_id and n.noderole = 'primary' where c.object_type = 1`;

/** Returns tables of shards at wrong nodes that no cleanup will drop. */
export async function readOrphans(db: Queryable): Promise<Leftover[]> {
  const bare = (name: string) => name.replace(/^public\./, '');
  const scheduled = async () =>
    (await db.query<{ node: number; name: string }>(SCHEDULED)).rows.map(
      ({ node, name }) => `${node} ${bare(name)}`,
    );
  // Reads before and after: tables of a move that begins or ends meanwhile are in one of the two.
  const before = await scheduled();
  const stray = await onEveryNode<string[]>(db, STRAY);
  const known = new Set([...before, ...(await scheduled())]);
  const nodes = await db.query<{ id: number; name: string }>(
    `select nodeid as id, nodename || ':' || nodeport as name from pg_dist_node`,
  );
  return nodes.rows.flatMap(({ id, name: node }) =>
    (stray.get(id) ?? [])
      // A table that is dropped during the listing appears as a number.
      .filter((name) => !known.has(`${id} ${bare(name)}`) && !/^\d+$/.test(name))
      .map((name) => ({ node, kind: 'shard', name })),
  );
}

/** Drops scheduled objects. Objects in use stay. */
export async function cleanUp(db: Queryable): Promise<void> {
  await db.query('call citus_cleanup_orphaned_resources()');
}

/** Returns whether the coordinator can connect to a server. */
export async function checkConnection(db: Queryable, node: { host: string; port: number }): Promise<boolean> {
  const { rows } = await db.query<{ answers: boolean }>(
    'select citus_check_connection_to_node($1, $2) as answers',
    [node.host, node.port],
  );
  return rows[0]!.answers;
}

export async function addNode(db: Queryable, node: { host: string; port: number }): Promise<void> {
  await db.query('select citus_add_node($1, $2)', [node.host, node.port]);
}

export async function removeNode(db: Queryable, node: { host: string; port: number }): Promise<void> {
  await db.query('select citus_remove_node($1, $2)', [node.host, node.port]);
}
