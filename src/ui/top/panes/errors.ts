import type { ClusterError } from '../../../engine/stats/totals.ts';
import { numberColumn } from '../../columns/column.ts';
import { formatCount } from '../../terminal/format.ts';
import { clock, pane } from '../pane.ts';

export const ERRORS_PANE = pane<ClusterError>({
  id: 'errors',
  hotkey: '7',
  title: 'Errors',
  short: 'Errors',
  source: 'figures',
  rows: ({ figures }) => figures?.errors ?? null,
  key: (row) => `${row.host} ${row.pid} ${row.level} ${row.text}`,
  empty: () => 'no warnings, no errors',
  columns: [
    {
      title: 'last',
      width: 8,
      priority: 1,
      text: (row) => clock(row.lastAt),
      value: (row) => Date.parse(row.lastAt),
    },
    {
      title: 'level',
      width: 5,
      priority: 3,
      text: (row) => row.level,
      tone: (row) => (row.level === 'error' ? 'bad' : 'warn'),
    },
    numberColumn({ title: 'times', width: 6, priority: 2, of: (row) => row.count, format: formatCount }),
    { title: 'role', width: 7, priority: 4, text: (row) => row.role },
    { title: 'host', width: 10, maxWidth: 24, priority: 6, text: (row) => row.host },
    { title: 'what', width: 36, maxWidth: 200, priority: 0, text: (row) => row.text },
    { title: 'code', width: 20, priority: 7, text: (row) => row.code ?? '' },
  ],
  detail: (row) => [
    ['what', row.text],
    ['code', row.code ?? 'none'],
    ['level', row.level],
    ['times', formatCount(row.count)],
    ['first', row.firstAt],
    ['last', row.lastAt],
    ['role', row.role],
    ['host', row.host],
    ['process', String(row.pid)],
  ],
  leadsTo: ({ role, host, pid }, { workers }) => {
    if (role === 'gateway') return { pane: 'gateways' };
    const key = workers?.find((worker) => worker.host === host && worker.pid === pid)?.id;
    return { pane: 'workers', ...(key !== undefined && { key }) };
  },
});
