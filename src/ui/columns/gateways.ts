import type { GatewayRow as Registered } from '../../engine/store/processes.ts';
import { formatBytes, formatCount } from '../terminal/format.ts';
import {
  type Column,
  CPU_COLUMN,
  HEARTBEAT_COLUMN,
  numberColumn,
  rateColumn,
  STATE_COLUMN,
  type Working,
} from './column.ts';

/** A gateway, with its statistics in `top`. */
export type GatewayRow = Registered &
  Working & {
    readonly ready: boolean;
    readonly sockets?: number | null;
  };

const ID = { title: 'gateway', width: 36, priority: 8, text: (row: GatewayRow) => row.id } as const;

export const GATEWAY_COLUMNS: readonly Column<GatewayRow>[] = [
  // A list begins with the id, which other commands take; a pane has no room for it at its left edge.
  { ...ID, only: 'list' },
  { title: 'url', width: 26, maxWidth: 50, priority: 0, text: (row) => row.url },
  STATE_COLUMN,
  numberColumn({
    title: 'sockets',
    only: 'top',
    width: 8,
    priority: 2,
    of: (row) => row.sockets ?? null,
    format: formatCount,
  }),
  numberColumn({ title: 'users', width: 8, priority: 7, of: (row) => row.online, format: formatCount }),
  rateColumn('pushed', { title: 'pushed/s', width: 9, priority: 3 }),
  rateColumn('created', { title: 'posts/s', width: 7, priority: 5 }),
  CPU_COLUMN,
  numberColumn({
    title: 'memory',
    only: 'top',
    width: 8,
    priority: 6,
    of: (row) => row.work?.memoryBytes ?? null,
    format: formatBytes,
  }),
  {
    title: 'started',
    only: 'list',
    width: 24,
    priority: 9,
    text: (row) => row.startedAt.toISOString(),
  },
  HEARTBEAT_COLUMN,
  { ...ID, only: 'top' },
];
