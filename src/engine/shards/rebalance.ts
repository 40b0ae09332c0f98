import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { permitCancel, runOperation, saveProgress } from '../operations/run.ts';
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
  cancelJob,
  cancelStatement,
  moveShard as moveInDatabase,
  openJobs,
  readActiveMoves,
  readJob,
  readPlan,
  readShards,
  readTasks,
  type ShardGroup,
  setTakesShards,
  startRebalance,
  tablesWithoutIdentity,
} from './sql.ts';

const POLL_MS = 1_000;
const STOPPING_POLL_MS = 200;
/** A move that is cancelled undoes itself in a moment. */
const UNDO_TIMEOUT_MS = 30_000;

export interface RebalanceOptions {
  /** A node that is to have no shards any more. */
  readonly drainNode?: string | undefined;
  /** Moves only what is on nodes that take no shards; the others are not evened out. */
  readonly drainOnly?: boolean;
  readonly signal?: AbortSignal;
  onProgress?(status: JobStatus): void;
}

export interface RebalancePlan {
  readonly moves: readonly Move[];
  readonly bytes: number;
  /** As they are now. */
  readonly nodes: readonly NodeShards[];
  /** What keeps this from being done; empty where nothing does. */
  readonly missing: readonly Requirement[];
  /** A job that is running: a rebalance follows it if it was started by the same command, else it refuses. */
  readonly running: number | null;
}

export interface RebalanceResult {
  /** Null where nothing had to move. */
  readonly jobId: number | null;
  readonly moves: readonly Move[];
  readonly bytes: number;
  readonly seconds: number;
  /** As they are afterwards. */
  readonly nodes: readonly NodeShards[];
}

export interface Requirement {
  readonly what: string;
  readonly fix: string;
}

/** What a rebalance would do, by Citus's own dry run. Throws NOT_DISTRIBUTED, NODE_NOT_FOUND. */
export async function planRebalance(db: Database, options: RebalanceOptions = {}): Promise<RebalancePlan> {
  await requireDistributed(db);
  const nodes = await citusNodes(db);
  const drain = options.drainNode === undefined ? undefined : findNode(nodes, options.drainNode);
  const groups = await readShards(db);
  const missing = await missingRequirements(db, nodes, drain);
  // With nowhere to go Citus gives no plan, but an error.
  const possible = targets(nodes, drain).length > 0;
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

const targets = (nodes: readonly CitusNode[], drain?: CitusNode): CitusNode[] =>
  nodes.filter((node) => node.takesShards && node.active && node.id !== drain?.id);

/** Everything that is missing, at once: whoever mends one thing does not want to be told of the next. */
async function missingRequirements(
  db: Database,
  nodes: readonly CitusNode[],
  drain?: CitusNode,
): Promise<Requirement[]> {
  const missing: Requirement[] = [];
  const silent = nodes.filter((node) => !node.active || node.free === null);
  const answering = nodes.filter((node) => node.free !== null);
  const named = (some: readonly CitusNode[]) => some.map((node) => node.name).join(', ');
  const want = (lacking: readonly CitusNode[], what: string, fix: string) => {
    if (lacking.length > 0) missing.push({ what: `${what} (${named(lacking)})`, fix });
  };
  if (nodes.filter((node) => node.takesShards || node.id === drain?.id).length < 2)
    missing.push({
      what: 'fewer than two nodes take shards',
      fix: 'Add one with `feedctl node add <host:port>`.',
    });
  else if (targets(nodes, drain).length === 0)
    missing.push({ what: 'no other node takes shards', fix: 'Add one with `feedctl node add <host:port>`.' });
  if (!nodes.some((node) => node.coordinator))
    missing.push({
      what: 'the nodes do not know the coordinator',
      fix: 'Run `select citus_set_coordinator_host(host, port)` there.',
    });
  want(silent, 'a node does not answer', 'Start it, or look at `feedctl doctor`.');
  want(
    answering.filter((node) => node.walLevel !== 'logical'),
    'wal_level is not logical',
    'Set wal_level = logical and restart: shards move by logical replication while they are written to.',
  );
  // At the coordinator one process minds the queue of jobs and one does the move; elsewhere one applies what is written meanwhile.
  want(
    answering.filter((node) => node.free!.workerProcesses < (node.coordinator ? 2 : 1)),
    'no background worker is left',
    'Raise max_worker_processes and restart.',
  );
  want(
    answering.filter((node) => node.takesShards && node.free!.logicalWorkers < 1),
    'no logical replication worker is left',
    'Raise max_logical_replication_workers and restart.',
  );
  want(
    answering.filter((node) => node.free!.replicationSlots < 1),
    'no replication slot is left',
    'Raise max_replication_slots and restart, or drop slots nobody reads (`pg_replication_slots`).',
  );
  want(
    answering.filter((node) => node.free!.walSenders < 1),
    'no WAL sender is left',
    'Raise max_wal_senders and restart.',
  );
  const tables = await tablesWithoutIdentity(db);
  if (tables.length > 0)
    missing.push({
      what: `tables without a primary key or replica identity: ${tables.join(', ')}`,
      fix: 'Give each one (`alter table … replica identity full` at the least): changes to rows could not follow the move.',
    });
  return missing;
}

function refuse(missing: readonly Requirement[]): void {
  if (missing.length === 0) return;
  throw new FeedctlError(
    'SHARDS_UNMOVABLE',
    `shards cannot be moved: ${missing.map(({ what }) => what).join('; ')}`,
    {
      suggestions: missing.map(({ fix }) => fix),
    },
  );
}

/** Throws SHARDS_BUSY where a job, or a move without one, is under way. */
async function refuseWhileBusy(db: Database): Promise<void> {
  const [job] = await openJobs(db);
  if (job) throw new FeedctlError('SHARDS_BUSY', `job ${job.id} has not ended: ${job.description}`);
  const [move] = await readActiveMoves(db);
  if (move)
    throw new FeedctlError(
      'SHARDS_BUSY',
      `process ${move.pid} of the coordinator moves a shard from ${move.from} to ${move.to}`,
    );
}

/**
 * Moves shards until nodes are even, or until one is empty, as a job of Citus's: it goes on without this process, which
 * only follows it. A run that was cut off is taken up by the next one with the same options. Throws INTERRUPTED (the job
 * goes on), REBALANCE_FAILED, REBALANCE_STOPPED, SHARDS_UNMOVABLE, SHARDS_BUSY, OPERATION_RUNNING, NOT_DISTRIBUTED,
 * NODE_NOT_FOUND.
 */
export async function rebalance(db: Database, options: RebalanceOptions = {}): Promise<RebalanceResult> {
  await requireDistributed(db);
  const startedAt = Date.now();
  const drainOnly = options.drainOnly ?? false;
  const key = `${drainOnly ? 'drain' : 'even'} ${options.drainNode ?? ''}`.trim();
  return runOperation<{ jobId: number }, RebalanceResult>(
    db,
    { kind: 'rebalance', key, signal: options.signal },
    async (operation) => {
      const nodes = await citusNodes(db);
      const drain = options.drainNode === undefined ? undefined : findNode(nodes, options.drainNode);
      const open = await openJobs(db);
      let jobId = operation.progress?.jobId;
      if (jobId === undefined || !open.some((job) => job.id === jobId)) {
        refuse(await missingRequirements(db, nodes, drain));
        await refuseWhileBusy(db);
        if (drain?.takesShards) await setTakesShards(db, drain, false);
        // One transaction: no job that this operation does not know.
        jobId = await db.transaction(async (session) => {
          const started = await startRebalance(session, drainOnly);
          if (started !== undefined) await saveProgress(session, operation.id, { jobId: started });
          return started;
        });
      }
      if (jobId !== undefined) await operation.blockCancel(goesOn(jobId));
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
        seconds: Math.round(Date.now() - startedAt) / 1000,
        nodes: nodeShards(await citusNodes(db), await readShards(db)),
      };
    },
  );
}

/** Until the job has ended. */
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
    const sofar = `${done} of ${status.moves.length} move(s) done`;
    if (job.state === 'finished') return status;
    if (job.state === 'cancelled')
      throw new FeedctlError('REBALANCE_STOPPED', `job ${jobId} was stopped: ${sofar}`);
    if (job.state === 'failed') {
      const why = tasks
        .find((task) => task.state === 'error')
        ?.message.trim()
        .split('\n')[0];
      throw new FeedctlError('REBALANCE_FAILED', `job ${jobId} failed, ${sofar}: ${why}`);
    }
    if (signal.aborted)
      throw new FeedctlError('INTERRUPTED', `not followed any more; job ${jobId} goes on: ${sofar}`, {
        suggestions: [
          'Run the same command again to follow it, or look at `feedctl shards status`.',
          'End it with `feedctl shards rebalance --stop`.',
        ],
      });
    await sleep(POLL_MS, undefined, { signal }).catch(() => {});
  }
}

const goesOn = (jobId: number): string =>
  `job ${jobId} of Citus’s goes on by itself: \`feedctl shards rebalance --stop\` ends it`;

export interface StopResult {
  /** Null where no rebalance was running. */
  readonly jobId: number | null;
  readonly moves: number;
  readonly moved: number;
}

/** Ends the running rebalance: moves that are done stay, the one under way is undone. Throws NOT_DISTRIBUTED. */
export async function stopRebalance(db: Database, options: { dryRun: boolean }): Promise<StopResult> {
  await requireDistributed(db);
  const job = await readJob(db);
  if (!job || !(await openJobs(db)).some((open) => open.id === job.id))
    return { jobId: null, moves: 0, moved: 0 };
  if (!options.dryRun) {
    await cancelJob(db, job.id);
    await permitCancel(db, goesOn(job.id));
    while ((await openJobs(db)).some((open) => open.id === job.id)) await sleep(STOPPING_POLL_MS);
    // The job ends before the move does: whatever comes next would find it under way.
    const until = Date.now() + UNDO_TIMEOUT_MS;
    while (Date.now() < until && (await readActiveMoves(db)).length > 0) await sleep(STOPPING_POLL_MS);
  }
  const moves = (await readTasks(db, job.id)).filter((task) => task.move !== null);
  return {
    jobId: job.id,
    moves: moves.length,
    moved: moves.filter((task) => task.state === 'done').length,
  };
}

export interface MoveResult extends Move {
  /** False where it is there already. */
  readonly moved: boolean;
  readonly seconds: number;
}

/** What `moveShard` would do. Throws as it does, before anything is done. */
export async function planMove(
  db: Database,
  shard: number,
  to: string,
): Promise<Move & { readonly fromNode: number; readonly toNode: number }> {
  await requireDistributed(db);
  const nodes = await citusNodes(db);
  const target = findNode(nodes, to);
  const group = (await readShards(db)).find((one) => one.shardIds.includes(shard));
  if (!group) throw new FeedctlError('SHARD_NOT_FOUND', `no shard of feedctl’s has the id ${shard}`);
  const move = { shard: group.shard, from: group.node, to: target.name, bytes: group.bytes ?? 0 };
  if (group.nodeId !== target.id) {
    const missing = await missingRequirements(db, nodes);
    if (!target.takesShards)
      missing.push({
        what: `${target.name} takes no shards`,
        fix: `Let it: \`feedctl node add ${target.name}\`.`,
      });
    refuse(missing);
    await refuseWhileBusy(db);
  }
  return { ...move, fromNode: group.nodeId, toNode: target.id };
}

/**
 * Moves one shard, of every table, to a node. It ends with this process: an interruption undoes the move.
 * Throws SHARD_NOT_FOUND, NODE_NOT_FOUND, SHARDS_UNMOVABLE, SHARDS_BUSY, INTERRUPTED, NOT_DISTRIBUTED.
 */
export async function moveShard(
  db: Database,
  shard: number,
  to: string,
  options: { signal?: AbortSignal; onProgress?(bytes: number, total: number, phase: string): void } = {},
): Promise<MoveResult> {
  const startedAt = Date.now();
  const { fromNode, toNode, ...move } = await planMove(db, shard, to);
  const seconds = () => Math.round(Date.now() - startedAt) / 1000;
  if (fromNode === toNode) return { ...move, moved: false, seconds: seconds() };
  await db.withSession(async (session) => {
    const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
    const { pid } = rows[0]!;
    let ended = false;
    const moving = moveInDatabase(session, { shard: move.shard, fromNode, toNode }).finally(() => {
      ended = true;
    });
    const watching = (async () => {
      while (!ended && !options.signal?.aborted) {
        const now = (await readActiveMoves(db)).find((one) => one.pid === pid);
        if (now) options.onProgress?.(Math.min(now.bytes, move.bytes), move.bytes, now.phase);
        await sleep(POLL_MS, undefined, options.signal && { signal: options.signal }).catch(() => {});
      }
      if (!ended) await cancelStatement(db, pid);
    })();
    const [moved, watched] = await Promise.allSettled([moving, watching]);
    if (moved.status === 'rejected' && options.signal?.aborted && watched.status === 'fulfilled')
      throw new FeedctlError(
        'INTERRUPTED',
        `the move of shard ${move.shard} was undone: it is at ${move.from}`,
        { cause: moved.reason, suggestions: ['Run the same command again: the move begins anew.'] },
      );
    // What could not be watched has been moved all the same.
    if (moved.status === 'rejected') throw moved.reason;
  });
  return { ...move, moved: true, seconds: seconds() };
}
