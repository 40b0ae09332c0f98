import type { ActiveMove } from '../../engine/shards/sql.ts';
import { formatBytes, formatCount } from '../terminal/format.ts';
import { type Column, numberColumn } from './column.ts';

export interface ShardRow {
  readonly shard: number;
  readonly node: string;
  /** null: the node does not answer. */
  readonly bytes: number | null;
  readonly rows: number | null;
  /** Left out by lists, which do not read moves. */
  readonly move?: ActiveMove | null;
}

export const moveText = ({ move, bytes }: ShardRow): string => {
  if (!move) return '';
  const total = bytes === null ? '' : ` of ${formatBytes(bytes)}`;
  return `${formatBytes(move.bytes)}${total} to ${move.to}, ${move.phase.toLowerCase()}`;
};

export const SHARD_COLUMNS: readonly Column<ShardRow>[] = [
  {
    title: 'shard',
    width: 10,
    right: true,
    priority: 1,
    text: (row) => String(row.shard),
    value: (row) => -row.shard,
  },
  {
    title: 'node',
    width: 18,
    maxWidth: 30,
    priority: 0,
    text: (row) => row.node + (row.move ? ' →' : ''),
  },
  numberColumn({ title: 'size', width: 9, priority: 2, of: (row) => row.bytes, format: formatBytes }),
  numberColumn({ title: 'rows', width: 13, priority: 3, of: (row) => row.rows, format: formatCount }),
  {
    title: 'moving',
    only: 'top',
    width: 20,
    maxWidth: 80,
    priority: 4,
    text: moveText,
    tone: () => 'accent',
  },
];
