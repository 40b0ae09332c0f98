import type { Database } from '../database/database.ts';
import { counted } from '../model/counted.ts';
import { FeedctlError } from '../model/errors.ts';
import { type CitusNode, citusNodes } from './nodesSql.ts';
import {
  type ActiveMove,
  type Job,
  type JobState,
  type Leftover,
  readActiveMoves,
  readJob,
  readLeftovers,
  readOrphans,
  readShards,
  readTasks,
  type ShardGroup,
  type Task,
} from './sql.ts';

/** Longer than a move waits for statements that began before it. */
const STUCK_AFTER_SECONDS = 30;

/** Throws NOT_DISTRIBUTED on plain PostgreSQL, and on Citus without distributed tables. */
export async function requireDistributed(db: Database): Promise<void> {
  const { citusVersion, distributed } = await db.sharding();
  if (distributed) return;
  throw new FeedctlError(
    'NOT_DISTRIBUTED',
    citusVersion === undefined
      ? 'this database is plain PostgreSQL: it has no shards, and no nodes to put them on'
      : 'this database has Citus, and no table of feedctl is distributed',
  );
}

/** Parses `host:port`. Throws USAGE. */
export function parseNode(text: string): { host: string; port: number; name: string } {
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  if (!host || Number(port) < 1 || Number(port) > 65_535)
    throw new FeedctlError('USAGE', `${JSON.stringify(text)} is no node such as db2.example:5432`);
  return { host, port: Number(port), name: text };
}

/** Throws NODE_NOT_FOUND, or USAGE for text that is no node. */
export function findNode(nodes: readonly CitusNode[], text: string): CitusNode {
  const { name } = parseNode(text);
  const found = nodes.find((node) => node.name === name);
  if (found) return found;
  const known = nodes.map((node) => node.name).join(', ');
  throw new FeedctlError('NODE_NOT_FOUND', `Citus has no node ${name}; it has ${known}`);
}

export interface NodeShards {
  readonly node: string;
  readonly coordinator: boolean;
  readonly active: boolean;
  readonly takesShards: boolean;
  readonly version: string | null;
  readonly shards: number;
  /** Null if the node does not answer. */
  readonly bytes: number | null;
  readonly rows: number | null;
}

export interface ShardList {
  readonly shards: readonly Pick<ShardGroup, 'shard' | 'node' | 'bytes' | 'rows'>[];
  readonly nodes: readonly NodeShards[];
  /**
   * The largest value divided by the average: 1 if all are equal. Compares bytes of shards, and of
   * nodes that take shards.
   */
  readonly skew: { readonly shards: number; readonly nodes: number };
}

/** Throws NOT_DISTRIBUTED. */
export async function listShards(db: Database): Promise<ShardList> {
  await requireDistributed(db);
  const groups = await readShards(db);
  const nodes = nodeShards(await citusNodes(db), groups);
  return {
    shards: groups.map(({ shard, node, bytes, rows }) => ({ shard, node, bytes, rows })),
    nodes,
    skew: {
      shards: skewOf(groups.map((group) => group.bytes ?? 0)),
      nodes: skewOf(nodes.filter((node) => node.takesShards).map((node) => node.bytes ?? 0)),
    },
  };
}

export function nodeShards(nodes: readonly CitusNode[], groups: readonly ShardGroup[]): NodeShards[] {
  return nodes.map(({ id, name, coordinator, active, takesShards, version }) => {
    const atNode = groups.filter((group) => group.nodeId === id);
    const sum = (of: 'bytes' | 'rows') =>
      version === null ? null : atNode.reduce((total, group) => total + (group[of] ?? 0), 0);
    const counted = { shards: atNode.length, bytes: sum('bytes'), rows: sum('rows') };
    return { node: name, coordinator, active, takesShards, version, ...counted };
  });
}

function skewOf(values: readonly number[]): number {
  const total = values.reduce((sum, value) => sum + value, 0);
  return total > 0 ? Number(((Math.max(...values) * values.length) / total).toFixed(2)) : 1;
}

export interface Move {
  readonly shard: number;
  readonly from: string;
  readonly to: string;
  /** Size of the shard at its source, or at its target after the move. */
  readonly bytes: number;
}

export interface MoveState extends Move {
  readonly state: 'waiting' | 'moving' | 'done' | 'failed' | 'cancelled';
  /** Phase of an active move, as Citus names it. Null otherwise. */
  readonly phase: string | null;
  /** Bytes at the target. */
  readonly movedBytes: number;
}

export interface JobStatus {
  readonly jobId: number;
  readonly state: JobState;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly moves: readonly MoveState[];
  readonly bytes: number;
  readonly movedBytes: number;
}

/** Obstacle to moves, or remains of one. */
export interface Trouble {
  readonly kind: 'stuck' | 'failed' | 'orphan' | 'leftover';
  readonly detail: string;
  readonly fix: string;
}

export interface ShardStatus {
  /** The last rebalance or drain. Null if there was none. */
  readonly job: JobStatus | null;
  /** Active moves of that job and of any other session. */
  readonly active: readonly (Omit<ActiveMove, 'shardIds'> & { readonly shard: number | null })[];
  readonly troubles: readonly Trouble[];
}

const MOVE_STATES: Readonly<Record<Task['state'], MoveState['state']>> = {
  blocked: 'waiting',
  runnable: 'waiting',
  running: 'moving',
  cancelling: 'moving',
  done: 'done',
  error: 'failed',
  unscheduled: 'cancelled',
  cancelled: 'cancelled',
};

/** Returns the progress of a job. `groups`: sizes and places, which may be older. */
export async function jobStatus(
  db: Database,
  job: Job,
  known: { nodes: readonly CitusNode[]; groups: readonly ShardGroup[] },
): Promise<{ status: JobStatus; tasks: Task[]; active: ActiveMove[] }> {
  const tasks = await readTasks(db, job.id);
  const active = await readActiveMoves(db);
  const nameOf = (id: number) => known.nodes.find((node) => node.id === id)?.name ?? `node ${id}`;
  const moves = tasks.flatMap(({ state: taskState, move, pid }): MoveState[] => {
    if (!move) return [];
    const group = known.groups.find((one) => one.shardIds.includes(move.shardId));
    const state = MOVE_STATES[taskState];
    const now = state === 'moving' ? active.find((one) => one.pid === pid) : undefined;
    const bytes = group?.bytes ?? 0;
    return [
      {
        shard: group?.shard ?? move.shardId,
        from: nameOf(move.fromNode),
        to: nameOf(move.toNode),
        bytes,
        state,
        phase: now?.phase ?? null,
        // Indexes exist at the target from the beginning, so it may hold more bytes than the source
        // did.
        movedBytes: state === 'done' ? bytes : Math.min(now?.bytes ?? 0, bytes),
      },
    ];
  });
  const sum = (of: 'bytes' | 'movedBytes') => moves.reduce((total, move) => total + move[of], 0);
  const status = {
    jobId: job.id,
    state: job.state,
    startedAt: job.startedAt?.toISOString() ?? null,
    finishedAt: job.finishedAt?.toISOString() ?? null,
    moves,
    bytes: sum('bytes'),
    movedBytes: sum('movedBytes'),
  };
  return { status, tasks, active };
}

/** Throws NOT_DISTRIBUTED. */
export async function shardStatus(db: Database): Promise<ShardStatus> {
  await requireDistributed(db);
  const [groups, nodes, job] = [await readShards(db), await citusNodes(db), await readJob(db)];
  const progress = job && (await jobStatus(db, job, { nodes, groups }));
  const active = progress?.active ?? (await readActiveMoves(db));
  return {
    job: progress?.status ?? null,
    active: active.map(({ shardIds, ...move }) => ({
      ...move,
      shard: groups.find((group) => group.shardIds.includes(shardIds[0]!))?.shard ?? shardIds[0] ?? null,
    })),
    troubles: [...jobTroubles(job, progress?.tasks ?? []), ...(await remainsOfMoves(db))],
  };
}

/** Returns the troubles of `shards status`, for the doctor. */
export async function shardTroubles(db: Database): Promise<Trouble[]> {
  const job = await readJob(db);
  return [...jobTroubles(job, job ? await readTasks(db, job.id) : []), ...(await remainsOfMoves(db))];
}

function jobTroubles(job: Job | undefined, tasks: readonly Task[]): Trouble[] {
  if (!job) return [];
  const open = job.state === 'scheduled' || job.state === 'running';
  const troubles: Trouble[] = [];
  if (open && !job.attended)
    troubles.push({
      kind: 'stuck',
      detail: `job ${job.id} is ${job.state}, and no process of Citus works on it`,
      fix:
        'Citus starts one within seconds if the coordinator has a free background worker. ' +
        'If this stays, raise max_worker_processes and restart the coordinator.',
    });
  for (const { state, move, command, failures, message, notBefore, waitingSeconds, blockers, pid } of tasks) {
    const what = move ? `the move of shard ${move.shardId}` : command;
    const why = message.trim().split('\n')[0];
    const nextTry = notBefore ? `, next try ${notBefore.toISOString()}` : '';
    const holders = blockers?.length ? `, held by process ${blockers.join(', ')}` : '';
    if (state === 'error')
      troubles.push({
        kind: 'failed',
        detail: `job ${job.id}: ${what} failed: ${why}`,
        fix: 'Fix the cause, then run `feedctl shards rebalance` again. Moved shards stay where they are.',
      });
    else if (open && failures > 0)
      troubles.push({
        kind: 'stuck',
        detail: `job ${job.id}: ${what} failed ${counted(failures, 'time')}${nextTry}: ${why}`,
        fix: 'Fix the cause. Citus retries by itself; `feedctl shards rebalance --stop` ends the job.',
      });
    if (state === 'running' && (waitingSeconds ?? 0) > STUCK_AFTER_SECONDS)
      troubles.push({
        kind: 'stuck',
        detail:
          `job ${job.id}: ${what} (process ${pid}) has been waiting for a lock ` +
          `for ${Math.round(waitingSeconds!)} s${holders}`,
        fix:
          'End the statements of those processes of the coordinator (`pg_stat_activity`), ' +
          'or run `feedctl shards rebalance --stop`.',
      });
  }
  return troubles;
}

async function remainsOfMoves(db: Database): Promise<Trouble[]> {
  const orphans = byNode(await readOrphans(db)).map(({ node, what }) => ({
    kind: 'orphan' as const,
    detail: `at ${node}, of no table in the catalog: ${what}`,
    fix:
      'Inspect the content of each, then drop it at that node: ' +
      '`set citus.enable_manual_changes_to_shards = on; drop table …`.',
  }));
  const leftovers = byNode(await readLeftovers(db)).map(({ node, what }) => ({
    kind: 'leftover' as const,
    detail: `at ${node}, to be dropped: ${what}`,
    fix:
      'Citus drops them within seconds. If they stay, `call citus_cleanup_orphaned_resources()` ' +
      'shows the reason.',
  }));
  return [...orphans, ...leftovers];
}

function byNode(remains: readonly Leftover[]): { node: string; what: string }[] {
  return [...new Set(remains.map((one) => one.node))].map((node) => ({
    node,
    what: remains
      .filter((one) => one.node === node)
      .map(({ kind, name }) => `${kind} ${name}`)
      .join(', '),
  }));
}
