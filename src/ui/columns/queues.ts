import { counted } from '../../engine/model/counted.ts';
import { keepsUp } from '../../engine/monitoring/top/snapshot.ts';
import type { QueueBacklog } from '../../engine/queues/backlog.ts';
import type { QueueRow } from '../../engine/queues/list.ts';
import { formatCount, formatDuration, formatRate } from '../terminal/format.ts';
import { type Column, numberColumn } from './column.ts';

/** Messages that wait or are in flight. */
export const backlogOf = (row: QueueRow): number => row.ready + row.unacked;

export const formatAge = (ms: number | null): string =>
  ms === null ? 'not known' : formatDuration(ms / 1_000);

export const formatEta = (row: QueueRow): string => {
  if (backlogOf(row) === 0) return 'empty';
  if (row.paused) return 'PAUSED';
  if (row.etaSeconds !== null) return formatDuration(row.etaSeconds);
  return row.inPerSecond === null ? '' : 'never at this rate';
};

/** `81,920 rows`, `1 event`. A message holds up to 2,000 events or 8,192 rows. */
export const holdsText = ({ records, recordUnit, ready, unacked }: QueueBacklog): string => {
  if (ready + unacked === 0) return '';
  return records === null || recordUnit === null ? '-' : counted(records, recordUnit.slice(0, -1));
};

/** Columns of `queue list` and of the pane of queues in `top`. Names of gateways' queues have long ids. */
export const QUEUE_COLUMNS: readonly Column<QueueRow>[] = [
  { title: 'queue', width: 12, maxWidth: 44, priority: 0, text: (row) => row.queue },
  numberColumn({
    title: 'ready',
    width: 9,
    priority: 1,
    of: (row) => row.ready,
    format: formatCount,
    tone: (row) => (row.ready > 10_000 ? 'warn' : 'plain'),
  }),
  numberColumn({
    title: 'in flight',
    width: 9,
    priority: 7,
    of: (row) => row.unacked,
    format: formatCount,
  }),
  {
    title: 'holds',
    only: 'list',
    width: 16,
    right: true,
    priority: 8,
    text: holdsText,
    value: (row) => row.records,
  },
  numberColumn({ title: 'in/s', width: 7, priority: 5, of: (row) => row.inPerSecond, format: formatRate }),
  numberColumn({ title: 'out/s', width: 7, priority: 3, of: (row) => row.outPerSecond, format: formatRate }),
  {
    title: 'oldest',
    width: 8,
    right: true,
    priority: 6,
    text: (row) => (backlogOf(row) === 0 ? '' : row.oldestAgeMs === null ? '?' : formatAge(row.oldestAgeMs)),
    longText: (row) => (backlogOf(row) === 0 ? '' : formatAge(row.oldestAgeMs)),
    value: (row) => row.oldestAgeMs,
  },
  {
    title: 'empty in',
    width: 8,
    right: true,
    priority: 2,
    text: (row) => (keepsUp(row) ? 'keeps up' : formatEta(row).replace(/^never.*/, 'GROWS')),
    longText: formatEta,
    value: (row) => (backlogOf(row) === 0 || keepsUp(row) ? 0 : (row.etaSeconds ?? Number.POSITIVE_INFINITY)),
    tone: (row) =>
      backlogOf(row) === 0 || keepsUp(row) ? 'dim' : row.paused || row.etaSeconds === null ? 'warn' : 'plain',
  },
  numberColumn({
    title: 'dead letters',
    width: 12,
    priority: 4,
    of: (row) => row.deadLetters,
    format: formatCount,
    tone: (row) => (row.deadLetters > 0 ? 'bad' : 'dim'),
  }),
];
