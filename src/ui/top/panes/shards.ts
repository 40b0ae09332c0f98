import type { TopSnapshot } from '../../../engine/monitoring/top/snapshot.ts';
import { sizeText, topColumns } from '../../columns/column.ts';
import { moveText, SHARD_COLUMNS, type ShardRow } from '../../columns/shards.ts';
import { formatCount } from '../../terminal/format.ts';
import { pane } from '../pane.ts';

const shardsOf = ({ shards, moves }: TopSnapshot): ShardRow[] | null => {
  const rows = shards?.shards.map((row) => ({
    ...row,
    move: moves?.find(({ shardIds }) => shardIds.includes(row.shard)) ?? null,
  }));
  const size = ({ bytes, move }: ShardRow) => (move ? Number.POSITIVE_INFINITY : (bytes ?? 0));
  return rows?.sort((a, b) => (size(a) === size(b) ? 0 : size(b) - size(a))) ?? null;
};

export const SHARDS_PANE = pane<ShardRow>({
  id: 'shards',
  hotkey: '4',
  title: 'Shards',
  short: 'Shards',
  source: 'shards',
  rows: shardsOf,
  key: (row) => String(row.shard),
  empty: () => 'plain PostgreSQL: one server holds everything',
  columns: topColumns(SHARD_COLUMNS),
  detail: (row) => [
    ['shard', String(row.shard)],
    ['node', row.node],
    ['size', sizeText(row.bytes)],
    ['rows', row.rows === null ? 'the node does not answer' : formatCount(row.rows)],
    ['moving', moveText(row) || 'no'],
    ['move it', `feedctl shards move ${row.shard} HOST:PORT`],
  ],
});
