import type { Database } from '../../src/engine/database/database.ts';
import type { Session } from '../../src/engine/database/types.ts';
import { citusNodes } from '../../src/engine/shards/nodesSql.ts';
import { readShards } from '../../src/engine/shards/sql.ts';

/** Returns a shard and the address of another node that takes shards. */
export async function movableShard(db: Database, nth = 0): Promise<{ shard: number; to: string }> {
  const groups = await readShards(db);
  const { shard, nodeId } = groups[nth % groups.length]!;
  const target = (await citusNodes(db)).find((node) => node.takesShards && node.id !== nodeId)!;
  return { shard, to: target.name };
}

/**
 * Begins a transaction at the node of a shard, inside the caller's one, and locks no row. A move of the shard
 * waits for its end.
 */
export async function holdUpMove(session: Session, shard: number): Promise<void> {
  const { rows } = await session.query<{ id: number }>(
    `select id from users where get_shard_id_for_distribution_column('users', id) = $1 limit 1`,
    [shard],
  );
  await session.query('select pg_current_xact_id() from users where id = $1', [rows[0]!.id]);
}

/** Returns whether a move waits until another session unlocks a table. */
export async function isMoveWaiting(db: Database): Promise<boolean> {
  const { rowCount } = await db.query(
    `select 1 from pg_stat_activity a join pg_locks l using (pid)
     where a.query like 'select citus_move_shard_placement%' and l.locktype = 'relation' and not l.granted`,
  );
  return rowCount! > 0;
}
