import type { TopGateway, TopSnapshot, TopWorker } from '../../engine/monitoring/top/snapshot.ts';
import type { SourceState } from '../../engine/monitoring/top/source.ts';
import type { OperationRow } from '../../engine/operations/table.ts';
import type { QueueRow } from '../../engine/queues/list.ts';
import type { ClusterError } from '../../engine/stats/totals.ts';
import type { WindowName } from '../../engine/stats/windows.ts';
import {
  ago,
  type Column,
  numberColumn,
  perSecond,
  rateText,
  readiness,
  shareText,
  sizeText,
  topColumns,
} from '../columns/column.ts';
import { GATEWAY_COLUMNS } from '../columns/gateways.ts';
import { OPERATION_COLUMNS, outcomeOf, progressOf, stateOf, workOf } from '../columns/operations.ts';
import { backlogOf, formatAge, formatEta, QUEUE_COLUMNS } from '../columns/queues.ts';
import { moveText, SHARD_COLUMNS, type ShardRow } from '../columns/shards.ts';
import { USER_COLUMNS, type UserRow } from '../columns/users.ts';
import { WORKER_COLUMNS } from '../columns/workers.ts';
import { formatCount, formatMs } from '../terminal/format.ts';

export const PANE_IDS = [
  'queues',
  'workers',
  'gateways',
  'shards',
  'users',
  'operations',
  'errors',
  'sources',
] as const;
export type PaneId = (typeof PANE_IDS)[number];

export interface Pane<Row> {
  readonly id: PaneId;
  readonly title: string;
  /** Title in the list of panes. */
  readonly short: string;
  /** Name of the source that answers for the rows. */
  readonly source: string;
  readonly columns: readonly Column<Row>[];
  /** Title of the column that sorts the rows until the viewer chooses another. Default: order of `rows`. */
  readonly sort?: string;
  /** Rows of the pane, null if the source has not answered yet. */
  readonly rows: (snapshot: TopSnapshot) => readonly Row[] | null;
  readonly key: (row: Row) => string;
  /** Rows that the overview shows before others if not all fit. */
  readonly matters?: (row: Row) => boolean;
  readonly empty: (snapshot: TopSnapshot) => string;
  /** Everything that is known of a row, as names and values. */
  readonly detail: (row: Row, window: WindowName) => readonly (readonly [string, string])[];
}

/** A pane with rows of any type. */
// biome-ignore lint/suspicious/noExplicitAny: rows of different panes are in one list
export type AnyPane = Pane<any>;

/** Index of the column that sorts the rows until the viewer chooses another; -1: order of the rows. */
export const defaultSort = ({ columns, sort }: AnyPane): number =>
  columns.findIndex(({ title }) => title === sort);

const pane = <Row>(definition: Pane<Row>): Pane<Row> => definition;

const notReadyFirst = <Row extends { ready: boolean }>(rows: readonly Row[]): readonly Row[] =>
  rows.every((row) => row.ready)
    ? rows
    : [...rows.filter((row) => !row.ready), ...rows.filter((row) => row.ready)];

const runningFirst = (rows: readonly OperationRow[]): readonly OperationRow[] => {
  const running = rows.filter(({ state }) => state === 'running');
  return running.length > 0 ? [...running, ...rows.filter(({ state }) => state !== 'running')] : rows;
};

const clock = (iso: string): string => iso.slice(11, 19);

const usersOf = (snapshot: TopSnapshot): UserRow[] | null => {
  const { celebrities, figures } = snapshot;
  if (!celebrities && !figures) return null;
  const users = new Map<number, UserRow>();
  const of = (userId: number): UserRow =>
    users.get(userId) ?? { userId, celebrity: null, rowsAMinute: null, pagesAMinute: null };
  for (const { userId, rows } of figures?.hotAuthors ?? [])
    users.set(userId, { ...of(userId), rowsAMinute: rows });
  for (const { userId, pages } of figures?.hotReaders ?? [])
    users.set(userId, { ...of(userId), pagesAMinute: pages });
  for (const celebrity of celebrities ?? [])
    users.set(celebrity.userId, { ...of(celebrity.userId), celebrity });
  return [...users.values()];
};
const celebrityText = ({ celebrity }: UserRow): string =>
  celebrity ? `celebrity, ${celebrity.state}${celebrity.pinned ? ', pinned' : ''}` : 'hot';

const shardsOf = ({ shards, moves }: TopSnapshot): ShardRow[] | null => {
  const rows = shards?.shards.map((row) => ({
    ...row,
    move: moves?.find(({ shardIds }) => shardIds.includes(row.shard)) ?? null,
  }));
  const size = ({ bytes, move }: ShardRow) => (move ? Number.POSITIVE_INFINITY : (bytes ?? 0));
  return rows?.sort((a, b) => (size(a) === size(b) ? 0 : size(b) - size(a))) ?? null;
};

export const PANES: readonly AnyPane[] = [
  pane<QueueRow>({
    id: 'queues',
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
  }),
  pane<TopWorker>({
    id: 'workers',
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
  }),
  pane<TopGateway>({
    id: 'gateways',
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
  }),
  pane<ShardRow>({
    id: 'shards',
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
  }),
  pane<UserRow>({
    id: 'users',
    title: 'Users',
    short: 'Users',
    source: 'celebrities',
    rows: usersOf,
    key: (row) => String(row.userId),
    empty: () => 'no celebrities, and no hot user in the last minute',
    sort: 'rows/min',
    columns: topColumns(USER_COLUMNS),
    detail: (row) => [
      ['user', String(row.userId)],
      ['what', celebrityText(row)],
      ['followers', row.celebrity ? formatCount(row.celebrity.followers) : 'not read'],
      ['posts', row.celebrity ? formatCount(row.celebrity.posts) : 'not read'],
      [
        'feed rows planned, last whole minute',
        row.rowsAMinute === null ? 'not in the top' : `about ${formatCount(row.rowsAMinute)}`,
      ],
      [
        'pages read over HTTP, last whole minute',
        row.pagesAMinute === null ? 'not in the top' : `about ${formatCount(row.pagesAMinute)}`,
      ],
      ['look at them', `feedctl user show ${row.userId}`],
    ],
  }),
  pane<OperationRow>({
    id: 'operations',
    title: 'Operations',
    short: 'Ops',
    source: 'operations',
    rows: ({ operations }) => operations && runningFirst(operations),
    key: (row) => String(row.id),
    empty: () => 'no long work yet',
    columns: topColumns(OPERATION_COLUMNS),
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
  }),
  pane<ClusterError>({
    id: 'errors',
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
  }),
  pane<SourceState>({
    id: 'sources',
    title: 'Sources',
    short: 'Src',
    source: '',
    rows: ({ sources }) => sources,
    key: (row) => row.name,
    empty: () => 'none',
    columns: [
      { title: 'source', width: 11, priority: 0, text: (row) => row.name },
      {
        title: 'age',
        width: 8,
        right: true,
        priority: 1,
        text: (row) => (row.ageMs === null ? 'never' : ago(row.ageMs)),
        value: (row) => row.ageMs,
      },
      numberColumn({ title: 'took', width: 8, priority: 2, of: (row) => row.tookMs, format: formatMs }),
      numberColumn({ title: 'every', width: 8, priority: 3, of: (row) => row.everyMs, format: ago }),
      {
        title: 'fault',
        width: 20,
        maxWidth: 120,
        priority: 4,
        text: ({ error }) => (error ? `for ${ago(error.forMs)}: ${error.message}` : ''),
        tone: () => 'bad',
      },
    ],
    detail: (row) => [
      ['source', row.name],
      ['last answer', row.ageMs === null ? 'never' : `${ago(row.ageMs)} ago`],
      ['it took', row.tookMs === null ? '-' : formatMs(row.tookMs)],
      ['read every', ago(row.everyMs)],
      ['fault', row.error ? `${row.error.code}: ${row.error.message}` : 'none'],
    ],
  }),
];

export const paneOf = (id: PaneId): AnyPane => PANES.find((one) => one.id === id)!;
