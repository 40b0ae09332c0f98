import type { OperationRow } from '../../../engine/operations/table.ts';
import { topColumns } from '../../columns/column.ts';
import { OPERATION_COLUMNS, outcomeOf, progressOf, stateOf, workOf } from '../../columns/operations.ts';
import { formatBytes, formatCompact, formatDuration } from '../../terminal/format.ts';
import { type PaneColumn, pane } from '../pane.ts';

const runningFirst = (rows: readonly OperationRow[]): readonly OperationRow[] => {
  const running = rows.filter(({ state }) => state === 'running');
  return running.length > 0 ? [...running, ...rows.filter(({ state }) => state !== 'running')] : rows;
};

/** Texts of the progress from the longest to the shortest, each with whole figures. */
function progressTexts(row: OperationRow): string[] {
  const { progress } = row;
  const full = progressOf(row);
  if (!progress || full === undefined) return [''];
  const { done, total, unit, rate, etaSeconds } = progress;
  const amount = unit === 'bytes' ? formatBytes : formatCompact;
  const counted = `${amount(done)}${total === null ? '' : ` of ${amount(total)}`}`;
  const left = etaSeconds === null ? [] : [`${formatDuration(etaSeconds)} left`];
  const speed = rate ? [`${amount(rate)}/s`] : [];
  const share = total ? [`${Math.floor((done / total) * 100)}%`] : [];
  return [
    full,
    [counted, ...speed, ...left].join(', '),
    [...(share.length > 0 ? share : [counted]), ...left].join(', '),
    counted,
    share[0] ?? amount(done),
  ];
}

const COLUMNS = topColumns(OPERATION_COLUMNS).map((column): PaneColumn<OperationRow> => {
  if (column.title === 'progress') return { ...column, width: 20, priority: 1.5, texts: progressTexts };
  if (column.title === 'work') return { ...column, width: 22 };
  return column;
});

export const OPERATIONS_PANE = pane<OperationRow>({
  id: 'operations',
  hotkey: '6',
  title: 'Operations',
  short: 'Ops',
  source: 'operations',
  rows: ({ operations }) => operations && runningFirst(operations),
  key: (row) => String(row.id),
  empty: () => 'no long work yet',
  columns: COLUMNS,
  detail: (row) => [
    ['operation', String(row.id)],
    ['work', workOf(row)],
    ['state', stateOf(row)],
    ['who', row.who ?? 'a role'],
    ['started', row.startedAt.toISOString()],
    ['ended', row.finishedAt?.toISOString() ?? 'no'],
    ['runs', String(row.runs)],
    ['progress', progressOf(row) ?? 'none saved'],
    ['outcome', outcomeOf(row) || 'none yet'],
    ['half done', row.halfDone ?? 'nothing'],
    ['more', `feedctl operation show ${row.id}`],
  ],
});
