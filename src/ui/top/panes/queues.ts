import type { QueueRow } from '../../../engine/queues/list.ts';
import { rateText, topColumns } from '../../columns/column.ts';
import { backlogOf, formatAge, formatEta, QUEUE_COLUMNS } from '../../columns/queues.ts';
import { formatCount } from '../../terminal/format.ts';
import { pane } from '../pane.ts';

export const QUEUES_PANE = pane<QueueRow>({
  id: 'queues',
  hotkey: '1',
  title: 'Queues',
  short: 'Queues',
  source: 'queues',
  rows: ({ queues }) => queues,
  key: (row) => row.queue,
  matters: (row) => backlogOf(row) > 0 || row.deadLetters > 0,
  empty: () => 'no queues',
  columns: topColumns(QUEUE_COLUMNS),
  detail: (row) => [
    ['queue', row.queue],
    ['waiting', formatCount(row.ready)],
    ['in flight', formatCount(row.unacked)],
    ['in a second', rateText(row.inPerSecond)],
    ['out a second', rateText(row.outPerSecond)],
    ['oldest message', formatAge(row.oldestAgeMs)],
    ['empty in', formatEta(row)],
    ['paused', row.paused ? 'yes' : 'no'],
    ['dead letters', formatCount(row.deadLetters)],
    ['look into it', `feedctl queue peek ${row.queue}`],
  ],
  leadsTo: ({ queue }) =>
    queue.startsWith('live.') ? { pane: 'gateways', key: queue.slice('live.'.length) } : { pane: 'workers' },
});
