import { counted } from '../../model/counted.ts';
import { type FeedStorage, firstFull, isFullSoon, spaceText } from '../../model/feedStorage.ts';
import type { LaneState } from '../../model/lanes.ts';
import { mismatchText, type Sampling } from '../../model/sample.ts';
import type { QueueRow } from '../../queues/list.ts';
import type { NodeShards, ShardList } from '../../shards/list.ts';
import type { ClusterTotals } from '../../stats/totals.ts';
import { PANE_SOURCES } from './paneSources.ts';
import type { SourceState } from './source.ts';

/** A longer backlog calls for more workers. */
const MAX_WAITING = 10_000;
/** A live post should reach feeds within 5 s. */
const MAX_P99_MS = 5_000;
/** More names would leave no room for the message; `sources` has all of them. */
const MAX_NAMED = 2;

/** What a problem is about: a list of `top`, and the row in it if it is one. */
export interface TopAbout {
  readonly list: 'sources' | 'queues' | 'workers' | 'gateways' | 'shards' | 'users' | 'database';
  readonly row: string | null;
}

export interface TopCause {
  readonly state: 'degraded' | 'down';
  readonly text: string;
  readonly about: TopAbout;
}

export interface TopHealth {
  /**
   * `down`: a new post does not reach feeds and sockets, or this is unknown. `degraded`: an
   * operator should look at the problems.
   */
  readonly state: 'ok' | 'degraded' | 'down';
  /** In falling order of severity. */
  readonly problems: readonly string[];
  /** The problems, each with what it is about. */
  readonly causes: readonly TopCause[];
}

interface Role {
  readonly id: string;
  readonly ready: boolean;
}

/** The parts of a snapshot that health follows from. */
interface Parts {
  readonly figures: ClusterTotals | null;
  readonly backlog: { readonly messages: number; readonly deadLetters: number } | null;
  readonly cache: { readonly readyAt: number; readonly of: number } | null;
  readonly workers: readonly Role[] | null;
  readonly gateways: readonly Role[] | null;
  readonly known: {
    readonly lanes?: readonly LaneState[] | undefined;
    readonly queues?: readonly QueueRow[] | undefined;
    readonly shards?: ShardList | undefined;
    readonly sampling?: Sampling | undefined;
    readonly storage?: FeedStorage | null | undefined;
  };
  readonly sources: readonly SourceState[];
}

export function healthOf(parts: Parts): TopHealth {
  const all = [...serverCauses(parts), ...laneCauses(parts), ...roleCauses(parts), ...workCauses(parts)];
  const causes = [
    ...all.filter(({ state }) => state === 'down'),
    ...all.filter(({ state }) => state === 'degraded'),
  ];
  return { state: causes[0]?.state ?? 'ok', problems: causes.map(({ text }) => text), causes };
}

const cause =
  (state: TopCause['state']) =>
  (text: string, list: TopAbout['list'], row: string | null = null): TopCause => ({
    state,
    text,
    about: { list, row },
  });
const down = cause('down');
const degraded = cause('degraded');

const namesOf = (some: readonly { name: string }[], all: readonly unknown[]): string => {
  if (some.length === all.length) return 'all sources';
  return some.length > MAX_NAMED ? `${some.length} sources` : some.map(({ name }) => name).join(', ');
};

/** Sources that do not answer. One dependency that is down fails several sources: its error is named once. */
function serverCauses({ sources }: Parts): TopCause[] {
  const needed = sources.filter(({ name }) => !(PANE_SOURCES as readonly string[]).includes(name));
  const faults = needed.flatMap(({ name, error }) => (error ? [{ name, ...error }] : []));
  const causes = [...Map.groupBy(faults, (fault) => fault.code)].map(([code, of]) =>
    down(`${code} (${namesOf(of, needed)}): ${of[0]!.message}`, 'sources', of[0]!.name),
  );
  const awaited = needed.filter(({ ageMs, error }) => ageMs === null && !error);
  if (awaited.length > 0)
    causes.push(down(`no answer yet: ${namesOf(awaited, needed)}`, 'sources', awaited[0]!.name));
  return causes;
}

function laneCauses({ known }: Parts): TopCause[] {
  return (known.lanes ?? []).flatMap(({ lane, paused, throttled }) => {
    const queue = `rows.${lane}`;
    if (paused)
      return (lane === 'live' ? down : degraded)(
        `the ${lane} lane is paused by ${paused.by}`,
        'queues',
        queue,
      );
    if (!throttled) return [];
    const limit = `${throttled.rowsPerSecond} rows/s by ${throttled.by}`;
    return degraded(`the ${lane} lane is throttled to ${limit}`, 'queues', queue);
  });
}

function roleCauses({ workers, gateways, known }: Parts): TopCause[] {
  const causes: TopCause[] = [];
  for (const [name, list, rows] of [
    ['worker', 'workers', workers],
    ['gateway', 'gateways', gateways],
  ] as const) {
    if (!rows) continue;
    const of = rows.length;
    const missing = rows.filter((row) => !row.ready);
    const first = missing[0]?.id ?? null;
    if (of === 0) causes.push(down(`no ${name} runs`, list));
    else if (missing.length === of) causes.push(down(`none of ${counted(of, name)} is ready`, list, first));
    else if (missing.length > 0)
      causes.push(degraded(`${missing.length} of ${counted(of, name)} not ready`, list, first));
  }
  for (const { node, version, active } of known.shards?.nodes ?? ([] as NodeShards[]))
    if (version === null || !active)
      causes.push(
        down(`the database node ${node} ${active ? 'does not answer' : 'is not active'}`, 'shards'),
      );
  return causes;
}

const mostOf = (queues: readonly QueueRow[], of: (queue: QueueRow) => number): string | null =>
  queues.toSorted((a, b) => of(b) - of(a))[0]?.queue ?? null;

function workCauses({ figures, backlog, cache, known }: Parts): TopCause[] {
  const causes: TopCause[] = [];
  const queues = known.queues ?? [];
  if (backlog && backlog.messages > MAX_WAITING) {
    const longest = mostOf(queues, ({ ready }) => ready);
    causes.push(degraded(`${backlog.messages} messages wait`, 'queues', longest));
  }
  const p99 = figures?.latencyMs['1m']?.p99 ?? 0;
  if (p99 > MAX_P99_MS)
    causes.push(
      degraded(`1% of posts take ${(p99 / 1_000).toFixed(1)} s or longer to reach feeds`, 'workers'),
    );
  if (backlog && backlog.deadLetters > 0) {
    const queue = mostOf(queues, ({ deadLetters }) => deadLetters);
    causes.push(degraded(counted(backlog.deadLetters, 'dead letter'), 'queues', queue));
  }
  const { differing = [] } = known.sampling ?? {};
  if (differing[0]) {
    const feeds = counted(differing.length, 'sampled feed differs', 'sampled feeds differ');
    causes.push(degraded(`${feeds}: ${mismatchText(differing[0])}`, 'users'));
  }
  if (known.storage && isFullSoon(firstFull(known.storage)))
    causes.push(degraded(`the disk of the database: ${spaceText(known.storage)}`, 'database'));
  if (cache && cache.readyAt < cache.of) {
    const missing = cache.of - cache.readyAt;
    causes.push(
      degraded(`the cache is unavailable for ${missing} of ${counted(cache.of, 'gateway')}`, 'gateways'),
    );
  }
  return causes;
}
