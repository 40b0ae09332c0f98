import {
  type FeedStorage,
  firstFull,
  isFullSoon,
  OLD_MEASUREMENT_MS,
  oldestSeconds,
  timeLeft,
} from '../../engine/model/feedStorage.ts';
import type { Sampling } from '../../engine/model/sample.ts';
import type { TopBacklog, TopCache, TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { RateName } from '../../engine/stats/process.ts';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatMs,
  formatRate,
  oneLine,
} from '../terminal/format.ts';
import { chartLines } from './charts.ts';
import { paneOf } from './panes.ts';
import type { Screen } from './screen.ts';
import { staleText } from './sources.ts';
import { ends, type Line, parts, span, type Tone, widthOf } from './styledText.ts';
import { Trends } from './trends.ts';
import type { ViewState } from './viewState.ts';

/** Screens with fewer rows have one chart or none, and no sizes. */
const MIN_HEIGHT_FOR_ONE_CHART = 18;
const MIN_HEIGHT_FOR_TWO_CHARTS = 23;
const MIN_HEIGHT_FOR_ALL_CHARTS = 40;
const MIN_HEIGHT_FOR_HIGH_CHARTS = 54;
/** Screens with fewer cells have one chart beside none. */
const MIN_WIDTH_FOR_TWO_CHARTS = 76;
/** A higher p99 of post to feed is shown as a warning. */
const WARN_P99_MS = 5_000;

const HEALTH = {
  ok: ['● ok', 'ok'],
  degraded: ['▲ DEGRADED', 'warn'],
  down: ['▼ DOWN', 'bad'],
} as const satisfies Record<string, readonly [string, Tone]>;

/** A longer name would push a warning out of a terminal of 80 columns. */
const CONTEXT_WIDTH = 24;

/** Title, rates, levels, charts and problems: the rows above the tabs. */
export function header(snapshot: TopSnapshot, state: ViewState, screen: Screen): Line[] {
  const title = titleLine(snapshot, state, screen);
  // The keys need the room.
  if (state.overlay.kind === 'help') return [title];
  return [
    title,
    ratesLine(snapshot, state, screen.width),
    levelsLine(snapshot, screen.width),
    ...storageLines(snapshot, screen),
    ...charts(snapshot, state, screen),
    ...problems(snapshot, screen),
  ];
}

function titleLine(
  snapshot: TopSnapshot,
  state: ViewState,
  { width, admin, still, marks = [] }: Screen,
): Line {
  const [word, tone] = HEALTH[snapshot.health.state];
  const stale = staleText(snapshot, 'figures');
  const left: Line = [
    span('feedctl top ', 'strong'),
    span(
      `${oneLine(snapshot.context, CONTEXT_WIDTH)}${snapshot.production ? ' (production)' : ''} `,
      'accent',
    ),
    span(word, tone),
  ];
  const right = parts(
    [
      admin ? [span('ADMIN', 'warn')] : undefined,
      state.paused ? [span('PAUSED', 'warn')] : undefined,
      ...marks,
      stale ? [span(`as of ${stale}`, 'warn')] : undefined,
      [span(`${snapshot.takenAt.slice(11, 19)} UTC`, 'dim')],
      still ? undefined : [span(`every ${state.intervalSeconds} s`, 'dim')],
    ],
    Math.max(0, width - widthOf(left) - 1),
  );
  return ends(left, right, width);
}

const labelled = (label: string, text: string, tone: Tone = 'strong'): Line => [
  span(`${label} `, 'dim'),
  span(text, tone),
];

function ratesLine({ figures: stats }: TopSnapshot, state: ViewState, width: number): Line {
  const rate = (name: RateName): string => {
    if (!stats) return '-';
    const { sliding, tumbling } = stats.rates[name];
    return `${formatRate((state.tumbling ? tumbling : sliding)[state.window].perSecond)}/s`;
  };
  const latency = stats?.latencyMs[state.window];
  const p99Tone = (latency?.p99 ?? 0) > WARN_P99_MS ? 'warn' : 'strong';
  return parts(
    [
      labelled('posts', rate('planned')),
      labelled('deliveries', rate('deliveries')),
      labelled('p50', latency ? formatMs(latency.p50) : '-'),
      labelled('p99', latency ? formatMs(latency.p99) : '-', p99Tone),
      [span(`${state.tumbling ? 'last whole' : 'over'} ${state.window}`, 'dim')],
      labelled('pushed', rate('pushed')),
      labelled('made at gateways', rate('created')),
    ],
    width,
  );
}

function levelsLine(snapshot: TopSnapshot, width: number): Line {
  const { figures: stats, backlog, cache, bus, sampling } = snapshot;
  const stale = backlog ? staleText(snapshot, 'queues') : undefined;
  const growing = backlog !== null && isGrowing(backlog);
  return parts(
    [
      labelled('online', stats ? formatCount(stats.sockets) : '-'),
      labelled(
        'backlog',
        backlog ? formatCount(backlog.messages) + etaText(backlog, stale) : '-',
        stale || growing ? 'warn' : 'strong',
      ),
      labelled(
        'dead letters',
        backlog ? formatCount(backlog.deadLetters) : '-',
        backlog && backlog.deadLetters > 0 ? 'bad' : 'strong',
      ),
      labelled('workers', readyOf(snapshot.workers)),
      labelled('gateways', readyOf(snapshot.gateways)),
      cache ? labelled('cache', cacheText(cache), cache.readyAt < cache.of ? 'warn' : 'strong') : undefined,
      sampling ? labelled('feeds', samplingText(sampling), isSound(sampling) ? 'strong' : 'bad') : undefined,
      bus ? labelled('bus', bus) : undefined,
      backlog && backlog.messages > 0 && backlog.oldestAgeMs !== null
        ? labelled('oldest', formatDuration(backlog.oldestAgeMs / 1_000))
        : undefined,
    ],
    width,
  );
}

const isSound = ({ differing }: Sampling): boolean => differing.length === 0;

/** Feeds that differ now, or the number that was compared. */
const samplingText = (sampling: Sampling): string =>
  isSound(sampling)
    ? `${formatCount(sampling.checked)} checked`
    : `${formatCount(sampling.differing.length)} DIFFER`;

const isGrowing = ({ messages, etaSeconds, stuck }: TopBacklog): boolean =>
  messages > 0 && etaSeconds === null && stuck;

/** When the queues are empty, or how old the backlog is if its source fails: `, empty in 42.0 s`. */
function etaText(backlog: TopBacklog, stale: string | undefined): string {
  if (stale) return ` (${stale})`;
  if (backlog.messages === 0) return '';
  if (backlog.etaSeconds === null) return isGrowing(backlog) ? ', not getting shorter' : '';
  if (backlog.etaSeconds === 0) return ', keeps up';
  return `, empty in ${formatDuration(backlog.etaSeconds)}`;
}

function cacheText({ kind, readyAt, of, hitRate }: TopCache): string {
  if (readyAt < of) return `${kind} DOWN`;
  return hitRate === null ? kind : `${kind} ${Math.round(hitRate * 100)}%`;
}

function storageLines({ storage, takenAt }: TopSnapshot, { width, height }: Screen): Line[] {
  if (!storage || height < MIN_HEIGHT_FOR_TWO_CHARTS) return [];
  const { rows, bytes, partitions, walBytesPerRow, ageMs } = storage;
  const oldest = oldestSeconds(storage, takenAt);
  const disk = firstFull(storage);
  return [
    parts(
      [
        labelled('feed rows', formatCount(rows)),
        labelled('size', formatBytes(bytes)),
        labelled('partitions', formatCount(partitions)),
        oldest === null ? undefined : labelled('begun', `${formatDuration(oldest)} ago`),
        labelled('WAL', walBytesPerRow === null ? '-' : `${formatBytes(walBytesPerRow)}/row`),
        labelled('disk', diskText(disk), isFullSoon(disk) ? 'bad' : 'strong'),
        ageMs > OLD_MEASUREMENT_MS
          ? [span(`measured ${formatDuration(ageMs / 1_000)} ago`, 'warn')]
          : undefined,
      ],
      width,
    ),
  ];
}

function diskText(disk: FeedStorage['servers'][number] | undefined): string {
  if (!disk || disk.freeBytes === null) return 'not known';
  const free = `${formatBytes(disk.freeBytes)} free`;
  return disk.fullInSeconds === null ? free : `${free}, full in ${timeLeft(disk.fullInSeconds)}`;
}

const readyOf = (rows: readonly { ready: boolean }[] | null): string =>
  rows ? `${rows.filter((row) => row.ready).length}/${rows.length}` : '-';

const MORE_CHARTS = ['deliveries', 'backlog', 'planned', 'pushed', 'p99', 'errors'] as const;
const TWO_CHARTS = ['deliveries', 'backlog'] as const;
const ONE_CHART = ['deliveries'] as const;

/** Charts of the cluster. A pane with other charts has no room for them. */
function charts(snapshot: TopSnapshot, { pane, window }: ViewState, screen: Screen): Line[] {
  const { width, height, trends = Trends.of(snapshot) } = screen;
  if (height < MIN_HEIGHT_FOR_ONE_CHART || (pane !== 'overview' && paneOf(pane).charts)) return [];
  const isNarrow = width < MIN_WIDTH_FOR_TWO_CHARTS;
  const few = height < MIN_HEIGHT_FOR_TWO_CHARTS || isNarrow ? ONE_CHART : TWO_CHARTS;
  if (height < MIN_HEIGHT_FOR_ALL_CHARTS)
    return chartLines(snapshot, trends, few, { width, window, rows: 1, beside: 2 });
  const rows = height >= MIN_HEIGHT_FOR_HIGH_CHARTS ? 3 : 2;
  return chartLines(snapshot, trends, MORE_CHARTS, { width, window, rows: isNarrow ? 1 : rows, beside: 2 });
}

const maxProblems = (height: number): number => {
  if (height >= MIN_HEIGHT_FOR_ALL_CHARTS) return 6;
  return height >= MIN_HEIGHT_FOR_TWO_CHARTS ? 2 : 1;
};

/** The problems of the cluster, one a row, the worst first. The last row counts those that do not fit. */
function problems({ health }: TopSnapshot, { width, height }: Screen): Line[] {
  const max = maxProblems(height);
  const { length } = health.problems;
  const tone = health.state === 'down' ? 'bad' : 'warn';
  return health.problems.slice(0, max).map((problem, i): Line => {
    const more = i === max - 1 && length > max ? ` (+${length - max} more)` : '';
    return [span(`! ${oneLine(problem, Math.max(4, width - 2 - more.length))}${more}`, tone)];
  });
}
