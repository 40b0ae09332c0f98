import type { TopGateway, TopSnapshot, TopWorker } from '../../../engine/monitoring/top/snapshot.ts';
import {
  ago,
  perSecond,
  rateText,
  readiness,
  shareText,
  sizeText,
  topColumns,
} from '../../columns/column.ts';
import { GATEWAY_COLUMNS } from '../../columns/gateways.ts';
import { backlogOf } from '../../columns/queues.ts';
import { WORKER_COLUMNS } from '../../columns/workers.ts';
import { formatCount, formatMs } from '../../terminal/format.ts';
import { pane } from '../pane.ts';

const notReadyFirst = <Row extends { ready: boolean }>(rows: readonly Row[]): readonly Row[] =>
  rows.every((row) => row.ready)
    ? rows
    : [...rows.filter((row) => !row.ready), ...rows.filter((row) => row.ready)];

/** The queue with the most messages of those that a worker reads. */
function longestQueueOf({ reads }: TopWorker, { queues }: TopSnapshot): string {
  const names = reads?.map((name) => name.replace('feed.', '').replace(/\.\d+$/, ''));
  const read = (queues ?? []).filter(({ queue }) => !names || names.includes(queue));
  const [longest] = read.toSorted((a, b) => backlogOf(b) - backlogOf(a));
  return longest && backlogOf(longest) > 0 ? longest.queue : 'rows.live';
}

export const WORKERS_PANE = pane<TopWorker>({
  id: 'workers',
  hotkey: '2',
  title: 'Workers',
  short: 'Workers',
  source: 'roles',
  rows: ({ workers }) => workers && notReadyFirst(workers),
  key: (row) => row.id,
  empty: () => 'no worker runs: `feedctl worker start`',
  columns: topColumns(WORKER_COLUMNS),
  detail: (row, window) => [
    ['worker', row.id],
    ['host', row.host],
    ['process', String(row.pid)],
    ['state', readiness(row)],
    ['heartbeat', `${ago(row.heartbeatAgeMs)} ago when it was read`],
    ['version', row.version],
    ['started', row.startedAt.toISOString()],
    ['rows written', formatCount(row.rowsWritten)],
    [`rows a second, ${window}`, rateText(perSecond(row, 'deliveries', window))],
    [`posts planned a second, ${window}`, rateText(perSecond(row, 'planned', window))],
    [`warnings and errors a second, ${window}`, rateText(perSecond(row, 'errors', window))],
    ['slowest delivery in 5 s', row.lagMs === null ? 'none' : formatMs(row.lagMs)],
    ['CPU', row.work ? shareText(row.work.cpu) : 'not reported'],
    ['memory', sizeText(row.work?.memoryBytes ?? row.memoryBytes)],
    ['reads', row.reads === null ? 'all queues' : row.reads.join(' ') || 'none'],
    ['paused', row.paused.join(' ') || 'none'],
    ['drain it', row.drainable ? `feedctl worker drain ${row.id}` : 'part of `feedctl up`'],
  ],
  leadsTo: (row, snapshot) => ({ pane: 'queues', key: longestQueueOf(row, snapshot) }),
});

export const GATEWAYS_PANE = pane<TopGateway>({
  id: 'gateways',
  hotkey: '3',
  title: 'Gateways',
  short: 'Gateways',
  source: 'roles',
  rows: ({ gateways }) => gateways && notReadyFirst(gateways),
  key: (row) => row.id,
  empty: () => 'no gateway runs: `feedctl gateway start`',
  columns: topColumns(GATEWAY_COLUMNS),
  detail: (row, window) => [
    ['gateway', row.id],
    ['url', row.url],
    ['state', readiness(row)],
    ['heartbeat', `${ago(row.heartbeatAgeMs)} ago when it was read`],
    ['started', row.startedAt.toISOString()],
    ['sockets', row.sockets === null ? 'not reported' : formatCount(row.sockets)],
    ['users online', formatCount(row.online)],
    [`pushed a second, ${window}`, rateText(perSecond(row, 'pushed', window))],
    [`posts made a second, ${window}`, rateText(perSecond(row, 'created', window))],
    [`warnings and errors a second, ${window}`, rateText(perSecond(row, 'errors', window))],
    ['CPU', row.work ? shareText(row.work.cpu) : 'not reported'],
    ['memory', sizeText(row.work?.memoryBytes ?? null)],
    ['drain it', `feedctl gateway drain ${row.id}`],
  ],
  leadsTo: ({ id }, { queues }) => {
    const key = `live.${id}`;
    return { pane: 'queues', ...(queues?.some(({ queue }) => queue === key) && { key }) };
  },
});
