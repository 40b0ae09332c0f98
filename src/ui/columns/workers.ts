import type { WorkerState } from '../../engine/fleet/workers.ts';
import { formatBytes, formatMs, formatRate } from '../terminal/format.ts';
import {
  type Column,
  CPU_COLUMN,
  HEARTBEAT_COLUMN,
  numberColumn,
  perSecond,
  rateColumn,
  STATE_COLUMN,
  type Working,
} from './column.ts';

/** A worker, with its statistics in `top`. */
export type WorkerRow = WorkerState & Working;

/** A worker with a slower live message than this needs attention. */
const WARN_LAG_MS = 5_000;

const ID = { title: 'worker', width: 36, priority: 11, text: (row: WorkerRow) => row.id } as const;

export const WORKER_COLUMNS: readonly Column<WorkerRow>[] = [
  // A list begins with the id, which other commands take; a pane has no room for it at its left edge.
  { ...ID, only: 'list' },
  { title: 'host', width: 12, maxWidth: 40, priority: 0, text: (row) => row.host },
  numberColumn({ title: 'pid', width: 7, priority: 5, of: (row) => row.pid, format: String }),
  STATE_COLUMN,
  {
    title: 'reads',
    width: 9,
    priority: 9,
    text: (row) => (row.reads === null ? 'all' : `${row.reads.length} queues`),
    longText: (row) =>
      row.reads === null ? 'all' : row.reads.map((name) => name.replace('feed.', '')).join(' ') || 'none',
    value: (row) => row.reads?.length ?? null,
  },
  { title: 'paused', width: 9, priority: 7, text: (row) => row.paused.join(' '), tone: () => 'warn' },
  numberColumn({
    title: 'rows/s',
    width: 9,
    priority: 2,
    // A list has the rate of the last heartbeat.
    of: (row, window) => (row.work === undefined ? row.rowsPerSecond : perSecond(row, 'deliveries', window)),
    format: formatRate,
  }),
  rateColumn('planned', { title: 'posts/s', width: 7, priority: 8 }),
  {
    title: 'lag',
    width: 7,
    right: true,
    priority: 3,
    text: (row) => (row.lagMs === null ? '' : formatMs(row.lagMs)),
    value: (row) => row.lagMs,
    tone: (row) => ((row.lagMs ?? 0) > WARN_LAG_MS ? 'warn' : 'plain'),
  },
  CPU_COLUMN,
  numberColumn({
    title: 'memory',
    width: 8,
    priority: 6,
    of: (row) => row.work?.memoryBytes ?? row.memoryBytes,
    format: formatBytes,
  }),
  { title: 'version', width: 9, priority: 10, text: (row) => row.version },
  HEARTBEAT_COLUMN,
  { ...ID, only: 'top' },
];
