import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { counted } from '../model/counted.ts';
import { FeedctlError } from '../model/errors.ts';
import { type Operation, permitCancel, runOperation, saveProgress } from '../operations/run.ts';
import { poll } from '../util/poll.ts';
import {
  findNode,
  type JobStatus,
  jobStatus,
  type Move,
  type NodeShards,
  nodeShards,
  requireDistributed,
} from './list.ts';
import { type CitusNode, citusNodes } from './nodesSql.ts';
import {
  missingRequirements,
  type Requirement,
  requireAll,
  requireIdle,
  targetNodes,
} from './requirements.ts';
import {
  cancelJob,
  openJobs,
  readActiveMoves,
  readJob,
  readPlan,
  readShards,
  readTasks,
  type ShardGroup,
  setTakesShards,
  startRebalance,
} from './sql.ts';

const POLL_MS = 1_000;
const STOP_POLL_MS = 200;
/** A cancelled move undoes itself, usually within a second. */
const UNDO_TIMEOUT_MS = 30_000;

export interface RebalanceOptions {
  /** Node to empty. */
  readonly drainNode?: string | undefined;
  /** Only empties nodes that take no shards. Does not balance the others. */
  readonly drainOnly?: boolean;
  readonly signal?: AbortSignal;
  onProgress?(status: JobStatus): void;
}

export interface RebalancePlan {
  readonly moves: readonly Move[];
  readonly bytes: number;
  /** Current state. */
  readonly nodes: readonly NodeShards[];
  /** Requirements that do not hold. */
  readonly missing: readonly Requirement[];
  /** Running job. A rebalance follows it if the same command started it, and refuses otherwise. */
  readonly running: number | null;
}

export interface RebalanceResult {
  /** Null if no shard had to move. */
  readonly jobId: number | null;
  readonly moves: readonly Move[];
  readonly bytes: number;
  readonly seconds: number;
  /** State afterwards. */
  readonly nodes: readonly NodeShards[];
}

/**
 * Returns the moves of a rebalance, from Citus's own dry run. Throws NOT_DISTRIBUTED,
 * NODE_NOT_FOUND.
 */
export async function planRebalance(db: Database, options: RebalanceOptions = {}): Promise<RebalancePlan> {
  await requireDistributed(db);
  const nodes = await citusNodes(db);
  const drain = options.drainNode === undefined ? undefined : findNode(nodes, options.drainNode);
  const groups = await readShards(db);
  const missing = await missingRequirements(db, nodes, drain);
  // Without a target node, Citus throws instead of planning.
  const possible = targetNodes(nodes, drain).length > 0;
  const drainOnly = options.drainOnly ?? false;
  const planned = possible ? await readPlan(db, { ...(drain && { drain }), drainOnly }) : [];
  const moves = planned.map(({ shardId, from, to }) => {
    const group = groups.find((one) => one.shardIds.includes(shardId));
    return { shard: group?.shard ?? shardId, from, to, bytes: group?.bytes ?? 0 };
  });
  return {
    moves,
    bytes: moves.reduce((sum, move) => sum + move.bytes, 0),
    nodes: nodeShards(nodes, groups),
    missing,
    running: (await openJobs(db))[0]?.id ?? null,
  };
}

/**
 * Moves shards until nodes are balanced, or until one is empty. Citus runs the job, and this
 * process only follows it. A later run with the same options follows the same job. Throws
 * INTERRUPTED (the job continues), REBALANCE_FAILED, REBALANCE_STOPPED, SHARDS_UNMOVABLE,
 * SHARDS_BUSY, OPERATION_RUNNING, NOT_DISTRIBUTED, NODE_NOT_FOUND.
 */
export async function rebalance(db: Database, options: RebalanceOptions = {}): Promise<RebalanceResult> {
  await requireDistributed(db);
  const startedAt = performance.now();
  const drainOnly = options.drainOnly ?? false;
  const key = `${drainOnly ? 'drain' : 'even'} ${options.drainNode ?? ''}`.trim();
  return runOperation<{ jobId: number }, RebalanceResult>(
    db,
    { kind: 'rebalance', key, signal: options.signal },
    async (operation) => {
      const nodes = await citusNodes(db);
      const jobId = await findOrStartJob(db, nodes, operation, options);
      if (jobId !== undefined) await operation.blockCancel(continuation(jobId));
      const groups = await readShards(db);
      const onProgress = async (status: JobStatus) => {
        options.onProgress?.(status);
        const counts = { done: status.movedBytes, total: status.bytes, unit: 'bytes' };
        await saveProgress(db, operation.id, { jobId }, counts);
      };
      const ended =
        jobId === undefined
          ? undefined
          : await follow(db, jobId, { nodes, groups }, { signal: operation.signal, onProgress });
      return {
        jobId: jobId ?? null,
        moves: ended?.moves.map(({ shard, from, to, bytes }) => ({ shard, from, to, bytes })) ?? [],
        bytes: ended?.bytes ?? 0,
        seconds: Math.round(performance.now() - startedAt) / 1000,
        nodes: nodeShards(await citusNodes(db), await readShards(db)),
      };
    },
  );
}

/** Returns the job of an earlier run, or starts one. Returns undefined if no shard has to move. */
async function findOrStartJob(
  db: Database,
  nodes: readonly CitusNode[],
  operation: Operation<{ jobId: number }>,
  { drainNode, drainOnly = false }: RebalanceOptions,
): Promise<number | undefined> {
  const drain = drainNode === undefined ? undefined : findNode(nodes, drainNode);
  const open = await openJobs(db);
  const earlier = operation.progress?.jobId;
  if (earlier !== undefined && open.some((job) => job.id === earlier)) return earlier;
  requireAll(await missingRequirements(db, nodes, drain));
  await requireIdle(db);
  if (drain?.takesShards) await setTakesShards(db, drain, false);
  // One transaction: every job that starts is recorded in its operation.
  return db.transaction(async (session) => {
    const started = await startRebalance(session, drainOnly);
    if (started !== undefined) await saveProgress(session, operation.id, { jobId: started });
    return started;
  });
}

/** Follows a job to its end. */
async function follow(
  db: Database,
  jobId: number,
  known: { nodes: readonly CitusNode[]; groups: readonly ShardGroup[] },
  { signal, onProgress }: { signal: AbortSignal; onProgress(status: JobStatus): Promise<void> },
): Promise<JobStatus> {
  for (;;) {
    const job = (await readJob(db, jobId))!;
    const { status, tasks } = await jobStatus(db, job, known);
    await onProgress(status);
    const done = status.moves.filter((move) => move.state === 'done').length;
    const soFar = `${done} of ${counted(status.moves.length, 'move')} done`;
    if (job.state === 'finished') return status;
    if (job.state === 'cancelled')
      throw new FeedctlError('REBALANCE_STOPPED', `job ${jobId} was stopped: ${soFar}`);
    if (job.state === 'failed') {
      const why = tasks
        .find((task) => task.state === 'error')
        ?.message.trim()
        .split('\n')[0];
      throw new FeedctlError('REBALANCE_FAILED', `job ${jobId} failed, ${soFar}: ${why}`);
    }
    if (signal.aborted)
      throw new FeedctlError('INTERRUPTED', `not followed any more; job ${jobId} continues: ${soFar}`, {
        suggestions: [
          'Run the same command again to follow it, or look at `feedctl shards status`.',
          'End it with `feedctl shards rebalance --stop`.',
        ],
      });
    await sleep(POLL_MS, undefined, { signal }).catch(() => {});
  }
}

const continuation = (jobId: number): string =>
  `job ${jobId} of Citus continues by itself: \`feedctl shards rebalance --stop\` ends it`;

export interface StopResult {
  /** Null if no rebalance was running. */
  readonly jobId: number | null;
  readonly moves: number;
  readonly moved: number;
}

/**
 * Stops the running rebalance. Finished moves stay, and the active move is undone. Throws
 * NOT_DISTRIBUTED.
 */
export async function stopRebalance(db: Database, options: { dryRun: boolean }): Promise<StopResult> {
  await requireDistributed(db);
  const job = await readJob(db);
  if (!job || !(await openJobs(db)).some((open) => open.id === job.id))
    return { jobId: null, moves: 0, moved: 0 };
  if (!options.dryRun) {
    await cancelJob(db, job.id);
    await permitCancel(db, continuation(job.id));
    const hasEnded = async () => !(await openJobs(db)).some((open) => open.id === job.id);
    await poll(hasEnded, { everyMs: STOP_POLL_MS });
    // The job ends before the active move does. Without this wait the next command would still find
    // the move.
    const isIdle = async () => (await readActiveMoves(db)).length === 0;
    await poll(isIdle, { everyMs: STOP_POLL_MS, timeoutMs: UNDO_TIMEOUT_MS });
  }
  const moves = (await readTasks(db, job.id)).filter((task) => task.move !== null);
  return {
    jobId: job.id,
    moves: moves.length,
    moved: moves.filter((task) => task.state === 'done').length,
  };
}
