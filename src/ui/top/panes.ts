import {
  keepsUp,
  type TopGateway,
  type TopSnapshot,
  type TopWorker,
} from '../../engine/monitoring/top/snapshot.ts';
import type { SourceState } from '../../engine/monitoring/top/source.ts';
import type { OperationRow } from '../../engine/operations/table.ts';
import type { QueueRow } from '../../engine/queues/list.ts';
import type { ActiveMove } from '../../engine/shards/sql.ts';
import type { RateName } from '../../engine/stats/process.ts';
import type { ClusterError } from '../../engine/stats/totals.ts';
import type { WindowName } from '../../engine/stats/windows.ts';
import type { Celebrity } from '../../engine/store/celebrities.ts';
import { outcomeOf, progressOf, stateOf } from '../tables/operations.ts';
import { formatAge, formatEta } from '../tables/queues.ts';
import { formatMs, formatRate } from '../tables/rates.ts';
import { formatBytes, formatCompact, formatCount, formatDuration } from '../terminal/format.ts';
import type { Tone } from './styledText.ts';

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

export interface Column<Row> {
  readonly title: string;
  /** Cells. One that grows takes what is left, up to `most`. */
  readonly width: number;
  readonly most?: number;
  readonly right?: boolean;
  /** The lowest is kept longest where the screen is narrow. */
  readonly priority: number;
  readonly text: (row: Row, window: WindowName) => string;
  /** What it is sorted by; numbers begin with the greatest. Left out: the text. */
  readonly value?: (row: Row, window: WindowName) => string | number | null;
  readonly tone?: (row: Row) => Tone;
}

export interface Pane<Row> {
  readonly id: PaneId;
  readonly title: string;
  /** In the list of panes. */
  readonly short: string;
  /** What answers for it. */
  readonly source: string;
  readonly columns: readonly Column<Row>[];
  /** By this column unless the viewer chooses another; left out: as the rows come. */
  readonly sort?: number;
  /** null: not known yet. */
  readonly rows: (snapshot: TopSnapshot) => readonly Row[] | null;
  readonly key: (row: Row) => string;
  /** Shown before others where there is no room for all, in the order of all. */
  readonly matters?: (row: Row) => boolean;
  readonly empty: (snapshot: TopSnapshot) => string;
  /** All that is known of a row. */
  readonly detail: (row: Row, window: WindowName) => readonly (readonly [string, string])[];
}

/** A pane whose rows nobody but itself looks into. */
// biome-ignore lint/suspicious/noExplicitAny: rows of different panes are in one list
export type AnyPane = Pane<any>;

const pane = <Row>(definition: Pane<Row>): Pane<Row> => definition;
/** A column of numbers: a dash where one is not known. */
const figure = <Row>({
  of,
  as,
  ...column
}: Pick<Column<Row>, 'title' | 'width' | 'priority' | 'tone'> & {
  readonly of: (row: Row, window: WindowName) => number | null;
  readonly as: (value: number) => string;
}): Column<Row> => ({
  ...column,
  right: true,
  text: (row, window) => {
    const value = of(row, window);
    if (value === null) return '-';
    const text = as(value);
    // A number that is cut is another number.
    return text.length > column.width ? formatCompact(value) : text;
  },
  value: of,
});
const readiness = (row: { ready: boolean }): string => (row.ready ? 'ready' : 'NOT READY');
const readyTone = (row: { ready: boolean }): Tone => (row.ready ? 'ok' : 'bad');
const troubledFirst = <Row extends { ready: boolean }>(rows: readonly Row[]): readonly Row[] =>
  rows.every((row) => row.ready)
    ? rows
    : [...rows.filter((row) => !row.ready), ...rows.filter((row) => row.ready)];
const runningFirst = (rows: readonly OperationRow[]): readonly OperationRow[] => {
  const running = rows.filter(({ state }) => state === 'running');
  return running.length > 0 ? [...running, ...rows.filter(({ state }) => state !== 'running')] : rows;
};
const shareText = (share: number): string => `${Math.round(share * 100)}%`;
/** A worker or a gateway, and what it did. */
type Working = Pick<TopWorker, 'work'>;
const perSecond = ({ work }: Working, rate: RateName, window: WindowName): number | null =>
  work ? (work.perSecond[rate]?.[window] ?? 0) : null;
/** A column of what a process did a second, over the window. */
const rateColumn = (
  rate: RateName,
  column: Pick<Column<Working>, 'title' | 'width' | 'priority'>,
): Column<Working> =>
  figure({ ...column, of: (row, window) => perSecond(row, rate, window), as: formatRate });
const CPU_COLUMN = figure<Working>({
  title: 'cpu',
  width: 4,
  priority: 4,
  of: (row) => row.work?.cpu ?? null,
  as: shareText,
  tone: (row) => ((row.work?.cpu ?? 0) > 0.7 ? 'warn' : 'plain'),
});
const rateText = (value: number | null): string => (value === null ? '-' : formatRate(value));
const sizeText = (bytes: number | null): string => (bytes === null ? '-' : formatBytes(bytes));
const clock = (iso: string): string => iso.slice(11, 19);
const waits = (row: QueueRow): number => row.ready + row.unacked;
const ago = (ms: number): string => formatDuration(ms / 1_000);

export interface UserRow {
  readonly userId: number;
  readonly celebrity: Celebrity | null;
  readonly rowsAMinute: number | null;
  readonly pagesAMinute: number | null;
}

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

export interface ShardRow {
  readonly shard: number;
  readonly node: string;
  readonly bytes: number | null;
  readonly rows: number | null;
  readonly move: ActiveMove | null;
}

const shardsOf = ({ shards, moves }: TopSnapshot): ShardRow[] | null => {
  const rows = shards?.shards.map((row) => ({
    ...row,
    move: moves?.find(({ shardIds }) => shardIds.includes(row.shard)) ?? null,
  }));
  const size = ({ bytes, move }: ShardRow) => (move ? Number.POSITIVE_INFINITY : (bytes ?? 0));
  return rows?.sort((a, b) => (size(a) === size(b) ? 0 : size(b) - size(a))) ?? null;
};
const moveText = ({ move, bytes }: ShardRow): string =>
  move
    ? `${formatBytes(move.bytes)}${bytes === null ? '' : ` of ${formatBytes(bytes)}`} to ${move.to}, ${move.phase.toLowerCase()}`
    : '';

export const PANES: readonly AnyPane[] = [
  pane<QueueRow>({
    id: 'queues',
    title: 'Queues',
    short: 'Queues',
    source: 'queues',
    rows: ({ queues }) => queues,
    key: (row) => row.queue,
    matters: (row) => waits(row) > 0 || row.deadLetters > 0,
    empty: () => 'no queues',
    columns: [
      { title: 'queue', width: 12, most: 44, priority: 0, text: (row) => row.queue },
      figure({
        title: 'ready',
        width: 9,
        priority: 1,
        of: (row) => row.ready,
        as: formatCount,
        tone: (row) => (row.ready > 10_000 ? 'warn' : 'plain'),
      }),
      figure({ title: 'in hand', width: 7, priority: 7, of: (row) => row.unacked, as: formatCount }),
      figure({ title: 'in/s', width: 7, priority: 5, of: (row) => row.inPerSecond, as: formatRate }),
      figure({ title: 'out/s', width: 7, priority: 3, of: (row) => row.outPerSecond, as: formatRate }),
      {
        title: 'oldest',
        width: 8,
        right: true,
        priority: 6,
        text: (row) => (waits(row) === 0 ? '' : row.oldestAgeMs === null ? '?' : formatAge(row.oldestAgeMs)),
        value: (row) => row.oldestAgeMs,
      },
      {
        title: 'empty in',
        width: 8,
        right: true,
        priority: 2,
        text: (row) => (keepsUp(row) ? 'keeps up' : formatEta(row).replace(/^never.*/, 'GROWS')),
        value: (row) => (waits(row) === 0 || keepsUp(row) ? 0 : (row.etaSeconds ?? Number.POSITIVE_INFINITY)),
        tone: (row) =>
          waits(row) === 0 || keepsUp(row) ? 'dim' : row.paused || row.etaSeconds === null ? 'warn' : 'plain',
      },
      figure({
        title: 'dead',
        width: 5,
        priority: 4,
        of: (row) => row.deadLetters,
        as: formatCount,
        tone: (row) => (row.deadLetters > 0 ? 'bad' : 'dim'),
      }),
    ],
    detail: (row) => [
      ['queue', row.queue],
      ['waiting', formatCount(row.ready)],
      ['in the hands of consumers', formatCount(row.unacked)],
      ['came a second', rateText(row.inPerSecond)],
      ['left a second', rateText(row.outPerSecond)],
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
    rows: ({ workers }) => workers && troubledFirst(workers),
    key: (row) => row.id,
    empty: () => 'no worker runs: `feedctl worker start`',
    columns: [
      { title: 'host', width: 12, most: 40, priority: 0, text: (row) => row.host },
      figure({ title: 'pid', width: 7, priority: 5, of: (row) => row.pid, as: String }),
      { title: 'state', width: 9, priority: 1, text: readiness, tone: readyTone },
      rateColumn('deliveries', { title: 'rows/s', width: 9, priority: 2 }),
      rateColumn('planned', { title: 'posts/s', width: 7, priority: 8 }),
      {
        title: 'lag',
        width: 7,
        right: true,
        priority: 3,
        text: (row) => (row.lagMs === null ? '' : formatMs(row.lagMs)),
        value: (row) => row.lagMs,
        tone: (row) => ((row.lagMs ?? 0) > 5_000 ? 'warn' : 'plain'),
      },
      CPU_COLUMN,
      figure({
        title: 'memory',
        width: 8,
        priority: 6,
        of: (row) => row.work?.memoryBytes ?? row.memoryBytes,
        as: formatBytes,
      }),
      {
        title: 'reads',
        width: 9,
        priority: 9,
        text: (row) => (row.reads === null ? 'all' : `${row.reads.length} queues`),
        value: (row) => row.reads?.length ?? null,
      },
      {
        title: 'paused',
        width: 9,
        priority: 7,
        text: (row) => row.paused.join(' '),
        tone: () => 'warn',
      },
      { title: 'version', width: 9, priority: 10, text: (row) => row.version },
      { title: 'id', width: 36, priority: 11, text: (row) => row.id },
    ],
    detail: (row, window) => [
      ['worker', row.id],
      ['host', row.host],
      ['process', String(row.pid)],
      ['state', readiness(row)],
      ['last heard of', `${ago(row.heartbeatAgeMs)} before it was asked`],
      ['version', row.version],
      ['started', row.startedAt.toISOString()],
      ['rows written', formatCount(row.rowsWritten)],
      [`rows a second, ${window}`, rateText(perSecond(row, 'deliveries', window))],
      [`posts planned a second, ${window}`, rateText(perSecond(row, 'planned', window))],
      [`warnings and errors a second, ${window}`, rateText(perSecond(row, 'errors', window))],
      ['slowest delivery of five seconds', row.lagMs === null ? 'none' : formatMs(row.lagMs)],
      ['CPU', row.work ? shareText(row.work.cpu) : 'not told'],
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
    rows: ({ gateways }) => gateways && troubledFirst(gateways),
    key: (row) => row.id,
    empty: () => 'no gateway runs: `feedctl gateway start`',
    columns: [
      { title: 'url', width: 26, most: 50, priority: 0, text: (row) => row.url },
      { title: 'state', width: 9, priority: 1, text: readiness, tone: readyTone },
      figure({ title: 'sockets', width: 8, priority: 2, of: (row) => row.sockets, as: formatCount }),
      figure({ title: 'users', width: 8, priority: 7, of: (row) => row.online, as: formatCount }),
      rateColumn('pushed', { title: 'pushed/s', width: 9, priority: 3 }),
      rateColumn('created', { title: 'posts/s', width: 7, priority: 5 }),
      CPU_COLUMN,
      figure({
        title: 'memory',
        width: 8,
        priority: 6,
        of: (row) => row.work?.memoryBytes ?? null,
        as: formatBytes,
      }),
      { title: 'id', width: 36, priority: 8, text: (row) => row.id },
    ],
    detail: (row, window) => [
      ['gateway', row.id],
      ['url', row.url],
      ['state', readiness(row)],
      ['last heard of', `${ago(row.heartbeatAgeMs)} before it was asked`],
      ['started', row.startedAt.toISOString()],
      ['sockets', row.sockets === null ? 'not told' : formatCount(row.sockets)],
      ['users online', formatCount(row.online)],
      [`pushed a second, ${window}`, rateText(perSecond(row, 'pushed', window))],
      [`posts made a second, ${window}`, rateText(perSecond(row, 'created', window))],
      [`warnings and errors a second, ${window}`, rateText(perSecond(row, 'errors', window))],
      ['CPU', row.work ? shareText(row.work.cpu) : 'not told'],
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
    columns: [
      {
        title: 'shard',
        width: 10,
        right: true,
        priority: 1,
        text: (row) => String(row.shard),
        value: (row) => -row.shard,
      },
      { title: 'node', width: 18, most: 30, priority: 0, text: (row) => row.node + (row.move ? ' →' : '') },
      figure({ title: 'size', width: 9, priority: 2, of: (row) => row.bytes, as: formatBytes }),
      figure({ title: 'rows', width: 13, priority: 3, of: (row) => row.rows, as: formatCount }),
      { title: 'moving', width: 20, most: 80, priority: 4, text: moveText, tone: () => 'accent' },
    ],
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
    empty: () => 'no celebrities, and nobody was hot in the last minute',
    sort: 3,
    columns: [
      {
        title: 'user',
        width: 16,
        right: true,
        priority: 0,
        text: (row) => String(row.userId),
        value: (row) => -row.userId,
      },
      { title: 'what', width: 10, most: 24, priority: 2, text: celebrityText },
      figure({
        title: 'followers',
        width: 10,
        priority: 3,
        of: (row) => row.celebrity?.followers ?? null,
        as: formatCount,
      }),
      figure({ title: 'rows/min', width: 10, priority: 1, of: (row) => row.rowsAMinute, as: formatCount }),
      figure({ title: 'pages/min', width: 9, priority: 4, of: (row) => row.pagesAMinute, as: formatCount }),
      figure({
        title: 'posts',
        width: 8,
        priority: 5,
        of: (row) => row.celebrity?.posts ?? null,
        as: formatCount,
      }),
    ],
    detail: (row) => [
      ['user', String(row.userId)],
      ['what', celebrityText(row)],
      ['followers', row.celebrity ? formatCount(row.celebrity.followers) : 'not asked'],
      ['posts', row.celebrity ? formatCount(row.celebrity.posts) : 'not asked'],
      [
        'feed rows planned, last whole minute',
        row.rowsAMinute === null ? 'not among the most' : `about ${formatCount(row.rowsAMinute)}`,
      ],
      [
        'pages read over HTTP, last whole minute',
        row.pagesAMinute === null ? 'not among the most' : `about ${formatCount(row.pagesAMinute)}`,
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
    columns: [
      figure({ title: 'id', width: 6, priority: 1, of: (row) => row.id, as: String }),
      {
        title: 'state',
        width: 11,
        priority: 0,
        text: stateOf,
        tone: ({ state }) =>
          state === 'failed' || state === 'interrupted' ? 'bad' : state === 'running' ? 'ok' : 'dim',
      },
      {
        title: 'work',
        width: 18,
        most: 60,
        priority: 2,
        text: (row) => row.command ?? `${row.kind} ${row.key}`,
      },
      { title: 'progress', width: 16, most: 50, priority: 3, text: (row) => progressOf(row) ?? '' },
      {
        title: 'started',
        width: 16,
        priority: 4,
        text: (row) => row.startedAt.toISOString().slice(0, 16).replace('T', ' '),
        value: (row) => row.startedAt.getTime(),
      },
      { title: 'who', width: 16, priority: 5, text: (row) => row.who ?? '' },
      { title: 'outcome', width: 20, most: 60, priority: 6, text: outcomeOf },
    ],
    detail: (row) => [
      ['operation', String(row.id)],
      ['work', row.command ?? `${row.kind} ${row.key}`],
      ['state', stateOf(row)],
      ['who', row.who ?? 'a role'],
      ['started', row.startedAt.toISOString()],
      ['ended', row.finishedAt?.toISOString() ?? 'no'],
      ['runs', String(row.runs)],
      ['progress', progressOf(row) ?? 'none noted'],
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
      figure({ title: 'times', width: 6, priority: 2, of: (row) => row.count, as: formatCount }),
      { title: 'role', width: 7, priority: 4, text: (row) => row.role },
      { title: 'host', width: 10, most: 24, priority: 6, text: (row) => row.host },
      { title: 'what', width: 36, most: 200, priority: 0, text: (row) => row.text },
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
      figure({ title: 'took', width: 8, priority: 2, of: (row) => row.tookMs, as: formatMs }),
      figure({ title: 'every', width: 8, priority: 3, of: (row) => row.everyMs, as: ago }),
      {
        title: 'fault',
        width: 20,
        most: 120,
        priority: 4,
        text: ({ error }) => (error ? `for ${ago(error.forMs)}: ${error.message}` : ''),
        tone: () => 'bad',
      },
    ],
    detail: (row) => [
      ['source', row.name],
      ['last answer', row.ageMs === null ? 'never' : `${ago(row.ageMs)} ago`],
      ['it took', row.tookMs === null ? '-' : formatMs(row.tookMs)],
      ['asked every', ago(row.everyMs)],
      ['fault', row.error ? `${row.error.code}: ${row.error.message}` : 'none'],
    ],
  }),
];

export const paneOf = (id: PaneId): AnyPane => PANES.find((one) => one.id === id)!;
