import { firstFull, isFullSoon, spaceText } from '../../../engine/model/feedStorage.ts';
import type {
  BlockedSession,
  DatabaseActivity,
  PartitionSize,
  RunningStatement,
  SlowStatement,
} from '../../../engine/monitoring/top/database.ts';
import type { TopSnapshot } from '../../../engine/monitoring/top/snapshot.ts';
import { formatBytes, formatCompact, formatCount, formatDuration, formatMs } from '../../terminal/format.ts';
import { pane } from '../pane.ts';
import type { Tone } from '../styledText.ts';

/** A figure of the server, a session, a statement or a partition. */
interface DatabaseRow {
  readonly key: string;
  readonly what: string;
  readonly figure: string;
  readonly more: string;
  readonly tone: Tone;
  readonly detail: readonly (readonly [string, string])[];
}

type Detail = DatabaseRow['detail'];

const row = (
  what: string,
  figure: string,
  more = '',
  { tone = 'plain', detail = [], key = what }: { tone?: Tone; detail?: Detail; key?: string } = {},
): DatabaseRow => ({ key, what, figure, more, tone, detail });

const perSecond = (value: number | null, format: (value: number) => string = formatCompact): string =>
  value === null ? '-' : `${format(value)}/s`;

function figures(database: DatabaseActivity, { storage }: TopSnapshot): DatabaseRow[] {
  const { sessions, maxSessions, cacheHitShare } = database;
  const total = sessions.reduce((sum, { count }) => sum + count, 0);
  const byState = sessions.map(({ state, count }) => `${formatCount(count)} ${state}`);
  const space = storage ? firstFull(storage) : undefined;
  const isSlowCache = cacheHitShare !== null && cacheHitShare < 0.9;
  return [
    row('sessions', `${formatCount(total)} of ${formatCount(maxSessions)}`, byState.join(', '), {
      tone: total > maxSessions * 0.8 ? 'warn' : 'plain',
    }),
    row(
      'transactions',
      perSecond(database.commitsPerSecond),
      `rolled back ${perSecond(database.rollbacksPerSecond)}`,
    ),
    row('rows written', perSecond(database.rowsWrittenPerSecond)),
    row('WAL', perSecond(database.walBytesPerSecond, formatBytes), walText(storage)),
    row(
      'cache hits',
      cacheHitShare === null ? '-' : `${(cacheHitShare * 100).toFixed(1)}%`,
      'pages that were in the memory of the server',
      { tone: isSlowCache ? 'warn' : 'plain' },
    ),
    row('deadlocks', formatCount(database.deadlocks), 'since the statistics were reset'),
    row('temporary files', formatBytes(database.temporaryBytes), 'since the statistics were reset'),
    ...(storage
      ? [
          row('size', sizeText(storage), spaceText(storage), { tone: isFullSoon(space) ? 'bad' : 'plain' }),
          row(
            'feed rows',
            formatCompact(storage.rows),
            `${formatBytes(storage.bytes)} in ${formatCount(storage.partitions)} partitions`,
          ),
        ]
      : []),
    row('server', database.version),
  ];
}

const sizeText = ({ servers }: NonNullable<TopSnapshot['storage']>): string =>
  formatBytes(servers.reduce((sum, { databaseBytes }) => sum + databaseBytes, 0));

const walText = (storage: TopSnapshot['storage']): string =>
  storage?.walBytesPerRow ? `${formatBytes(storage.walBytesPerRow)} for each feed row` : '';

const blockedRow = (session: BlockedSession): DatabaseRow => {
  const holders = session.blockedBy.join(', ') || 'unknown';
  return row('LOCK', formatDuration(session.waitsSeconds), `waits for ${holders}: ${session.statement}`, {
    key: `lock ${session.pid}`,
    tone: 'bad',
    detail: [
      ['session that waits', String(session.pid)],
      ['user', session.user],
      ['application', session.application],
      ['it waits', formatDuration(session.waitsSeconds)],
      ['statement', session.statement],
      ['waits for sessions', holders],
      ['the first of them', session.blocker],
      ['end it', `select pg_terminate_backend(${session.blockedBy[0] ?? 'PID'})`],
    ],
  });
};

const runningRow = (session: RunningStatement): DatabaseRow => {
  const idle = session.state !== 'active';
  return row(idle ? 'idle in tx' : 'running', formatDuration(session.seconds), session.statement, {
    key: `session ${session.pid}`,
    tone: idle && session.seconds > 60 ? 'warn' : 'plain',
    detail: [
      ['session', String(session.pid)],
      ['user', session.user],
      ['application', session.application],
      ['state', session.state],
      ['for', formatDuration(session.seconds)],
      ['waits for', session.waitsFor ?? 'nothing'],
      ['statement', session.statement],
    ],
  });
};

const slowRow = (statement: SlowStatement, index: number): DatabaseRow => {
  const calls = `${formatCompact(statement.calls)} calls`;
  return row('statement', formatMs(statement.meanMs), `${calls}: ${statement.statement}`, {
    key: `statement ${index}`,
    detail: [
      ['statement', statement.statement],
      ['mean', formatMs(statement.meanMs)],
      ['calls', formatCount(statement.calls)],
      ['in all', formatDuration(statement.totalSeconds)],
    ],
  });
};

const NO_STATEMENTS = row('statement', '-', 'slow statements need the extension pg_stat_statements');

const partitionRow = ({ name, bytes, rows }: PartitionSize): DatabaseRow =>
  row('partition', formatBytes(bytes), `${name}, ${formatCompact(rows)} rows`, {
    key: name,
    detail: [
      ['partition', name],
      ['size with indexes', formatBytes(bytes)],
      ['rows, by statistics', formatCount(rows)],
    ],
  });

/** Figures of the server, then locks, slow statements and partitions. */
export const DATABASE_PANE = pane<DatabaseRow>({
  id: 'database',
  hotkey: '9',
  title: 'Database',
  short: 'DB',
  source: 'database',
  asks: 'database',
  charts: ['transactions', 'wal', 'sessions', 'hits'],
  rows: (snapshot) => {
    const { database } = snapshot;
    if (!database) return null;
    return [
      ...database.blocked.map(blockedRow),
      ...figures(database, snapshot),
      ...database.longest.map(runningRow),
      ...(database.slowest?.map(slowRow) ?? [NO_STATEMENTS]),
      ...database.partitions.map(partitionRow),
    ];
  },
  key: (one) => one.key,
  empty: () => 'nothing',
  columns: [
    { title: 'what', width: 15, priority: 0, text: (one) => one.what, tone: (one) => one.tone },
    {
      title: 'figure',
      width: 12,
      right: true,
      priority: 1,
      text: (one) => one.figure,
      tone: (one) => one.tone,
    },
    { title: 'more', width: 24, maxWidth: 300, priority: 2, text: (one) => one.more },
  ],
  detail: (one) =>
    one.detail.length > 0
      ? one.detail
      : [
          [one.what, one.figure],
          ['more', one.more || 'nothing'],
        ],
});
