import type { NodeShards } from '../../engine/shards/list.ts';
import { formatBytes } from '../terminal/format.ts';
import { renderTable, type TableOptions } from '../terminal/table.ts';

const size = (bytes: number | null): string => (bytes === null ? '?' : formatBytes(bytes));
const count = (rows: number | null): string | number => rows ?? '?';

const nodeState = (node: NodeShards): string => {
  if (node.version === null) return 'NO ANSWER';
  if (!node.active) return 'NOT ACTIVE';
  return node.takesShards ? 'takes shards' : 'takes none';
};

export const nodesTable = (nodes: readonly NodeShards[], options: TableOptions): string =>
  renderTable(
    ['node', 'role', 'state', 'PostgreSQL', 'shards', 'size', 'rows'],
    nodes.map((node) => [
      node.node,
      node.coordinator ? 'coordinator' : 'worker',
      nodeState(node),
      node.version ?? '?',
      node.shards,
      size(node.bytes),
      count(node.rows),
    ]),
    options,
  );

export const movesTable = (
  moves: readonly { shard: number; from: string; to: string; bytes: number }[],
  options: TableOptions,
): string =>
  renderTable(
    ['shard', 'size', 'from', 'to'],
    moves.map(({ shard, from, to, bytes }) => [String(shard), size(bytes), from, to]),
    options,
  );
