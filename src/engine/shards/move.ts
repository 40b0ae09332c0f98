import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { findNode, type Move, requireDistributed } from './list.ts';
import { citusNodes } from './nodesSql.ts';
import { missingRequirements, requireAll, requireIdle } from './requirements.ts';
import {
  cancelStatement,
  isBesideTableChange,
  moveShard as moveInDatabase,
  readActiveMoves,
  readShards,
} from './sql.ts';

const POLL_MS = 1_000;
/** Partitions are made and removed in much less. */
const TABLES_CHANGE_MS = 60_000;

interface MoveOptions {
  readonly signal?: AbortSignal;
  onProgress?(bytes: number, total: number, phase: string): void;
}

type PlannedMove = Move & { readonly fromNode: number; readonly toNode: number };

export interface MoveResult extends Move {
  /** False if the shard was at that node already. */
  readonly moved: boolean;
  readonly seconds: number;
}

/** Returns the move that `moveShard` would make. Throws the same errors, and changes nothing. */
export async function planMove(db: Database, shard: number, to: string): Promise<PlannedMove> {
  await requireDistributed(db);
  const nodes = await citusNodes(db);
  const target = findNode(nodes, to);
  const group = (await readShards(db)).find((one) => one.shardIds.includes(shard));
  if (!group) throw new FeedctlError('SHARD_NOT_FOUND', `no shard of feedctl has the id ${shard}`);
  const move = { shard: group.shard, from: group.node, to: target.name, bytes: group.bytes ?? 0 };
  if (group.nodeId !== target.id) {
    const missing = await missingRequirements(db, nodes);
    if (!target.takesShards)
      missing.push({
        what: `${target.name} takes no shards`,
        fix: `Allow it with \`feedctl node add ${target.name}\`.`,
      });
    requireAll(missing);
    await requireIdle(db);
  }
  return { ...move, fromNode: group.nodeId, toNode: target.id };
}

/**
 * Moves one shard of every table to a node. The move needs this process: an interruption undoes it.
 * Throws SHARD_NOT_FOUND, NODE_NOT_FOUND, SHARDS_UNMOVABLE, SHARDS_BUSY, INTERRUPTED,
 * NOT_DISTRIBUTED.
 */
export async function moveShard(
  db: Database,
  shard: number,
  to: string,
  options: MoveOptions = {},
): Promise<MoveResult> {
  const startedAt = performance.now();
  const planned = await planMove(db, shard, to);
  const { fromNode, toNode, ...move } = planned;
  const seconds = () => Math.round(performance.now() - startedAt) / 1000;
  if (fromNode === toNode) return { ...move, moved: false, seconds: seconds() };
  let refusedSince: number | undefined;
  for (;;) {
    if (options.signal?.aborted) throw interrupted(move);
    try {
      await moveOnce(db, planned, options);
      return { ...move, moved: true, seconds: seconds() };
    } catch (error) {
      if (!isBesideTableChange(error)) throw error;
      refusedSince ??= performance.now();
      if (performance.now() - refusedSince > TABLES_CHANGE_MS)
        throw new FeedctlError(
          'SHARDS_BUSY',
          `shard ${move.shard} stays at ${move.from}, because its tables are being changed`,
          { cause: error, suggestions: ['Run the same command again in a minute.'] },
        );
    }
    await sleep(POLL_MS, undefined, options.signal && { signal: options.signal }).catch(() => {});
    await requireIdle(db);
  }
}

async function moveOnce(
  db: Database,
  { fromNode, toNode, ...move }: PlannedMove,
  { signal, onProgress }: MoveOptions,
): Promise<void> {
  await db.withSession(async (session) => {
    const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
    const { pid } = rows[0]!;
    let ended = false;
    const moving = moveInDatabase(session, { shard: move.shard, fromNode, toNode }).finally(() => {
      ended = true;
    });
    const watching = (async () => {
      while (!ended && !signal?.aborted) {
        const now = (await readActiveMoves(db)).find((one) => one.pid === pid);
        if (now) onProgress?.(Math.min(now.bytes, move.bytes), move.bytes, now.phase);
        await sleep(POLL_MS, undefined, signal && { signal }).catch(() => {});
      }
      if (!ended) await cancelStatement(db, pid);
    })();
    const [moved, watched] = await Promise.allSettled([moving, watching]);
    if (moved.status === 'rejected' && signal?.aborted && watched.status === 'fulfilled')
      throw interrupted(move, moved.reason);
    // A failed watch does not undo the move.
    if (moved.status === 'rejected') throw moved.reason;
  });
}

const interrupted = (move: { readonly shard: number; readonly from: string }, cause?: unknown) =>
  new FeedctlError('INTERRUPTED', `the move of shard ${move.shard} was undone: it is at ${move.from}`, {
    cause,
    suggestions: ['Run the same command again: the move starts over.'],
  });
