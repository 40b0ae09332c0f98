import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { RateName } from '../../engine/stats/process.ts';
import { formatMs, formatRate } from '../tables/rates.ts';
import { cellsOf, cut, pad, sparkline } from '../terminal/cells.ts';
import { formatCount, formatDuration, oneLine } from '../terminal/format.ts';
import { type Admin, ASKED } from './actions.ts';
import { type AnyPane, defaultSort, PANES, paneOf } from './panes.ts';
import { type OrderMemory, orderedRows } from './sorting.ts';
import { firstShown, KEYS, selectionIn, type ViewState } from './state.ts';
import { cutLine, ends, type Line, parts, type Span, span, type Tone, widthOf } from './styledText.ts';

export interface Screen {
  readonly width: number;
  readonly height: number;
  /** Who may change things is told so in every frame. */
  readonly admin: Admin | undefined;
  readonly memory: OrderMemory;
  /** No other frame follows. */
  readonly still?: true;
}

/** Below these rows only what matters most is left. */
const ROOM_FOR_SPARKS = 23;
const ROOM_FOR_ALL_SPARKS = 40;
const NARROW = 76;
const MARK = '›';

const HEALTH = {
  ok: ['● ok', 'ok'],
  degraded: ['▲ DEGRADED', 'warn'],
  down: ['▼ DOWN', 'bad'],
} as const satisfies Record<string, readonly [string, Tone]>;

/** Exactly as many rows as the screen has, none wider than it. The same snapshot, state and screen are the same frame. */
export function frame(snapshot: TopSnapshot, state: ViewState, screen: Screen): Line[] {
  const { width, height } = screen;
  const head = [...header(snapshot, state, screen), tabs(snapshot, state, width)];
  const foot = footer(state, screen);
  const room = Math.max(0, height - head.length - foot.length);
  const body = bodyOf(snapshot, state, screen, room).slice(0, room);
  const blank = Array.from({ length: room - body.length }, (): Line => []);
  return [...head, ...body, ...blank, ...foot].slice(0, height).map((line) => cutLine(line, width));
}

/** The overview as high as it needs to be, without the rows that are for keys, and with every source that did not answer. */
export function report(snapshot: TopSnapshot, state: ViewState, screen: Screen): Line[] {
  const missing = snapshot.sources.filter(({ ageMs, error }) => error || ageMs === null);
  const faults: Line[] =
    missing.length === 0
      ? []
      : [
          [],
          ...table(paneOf('sources'), missing, state, screen.width, {
            titles: ['NO ANSWER'],
            marked: -1,
            sorted: undefined,
          }),
        ];
  return [
    ...header(snapshot, state, screen),
    ...bodyOf(snapshot, state, screen, screen.height),
    ...faults,
  ].map((line) => cutLine(line, screen.width));
}

/** Rows of a pane that fit on the screen: what a page is. */
export function pageRows(snapshot: TopSnapshot, state: ViewState, screen: Screen): number {
  const around = header(snapshot, state, screen).length + 1 + footer(state, screen).length;
  return Math.max(1, screen.height - around - 1 - warning(snapshot, state).length);
}

/** What changes by the second is old after that, where its source answers slowly and is asked seldom. */
const STALE_AFTER_MS = 6_000;
const FAST: readonly string[] = ['figures', 'queues'];

/** How old what is shown of a source is, where it has failed since, or comes late: `12 s ago`. */
function staleText({ sources }: TopSnapshot, name: string): string | undefined {
  const { error, ageMs = null } = sources.find((source) => source.name === name) ?? {};
  if (ageMs === null || !(error || (FAST.includes(name) && ageMs > STALE_AFTER_MS))) return undefined;
  return `${wholeSeconds(ageMs)} ago`;
}

/** 12 s, 3 m 05 s: tenths of what is late would only flicker. */
const wholeSeconds = (ms: number): string => formatDuration(Math.round(ms / 1_000)).replace(/\.0 s$/, ' s');

function header(snapshot: TopSnapshot, state: ViewState, { width, height, admin, still }: Screen): Line[] {
  const { health, figures, backlog, cache } = snapshot;
  const [word, tone] = HEALTH[health.state];
  const stale = staleText(snapshot, 'figures');
  const right: Line = parts(
    [
      admin ? [span('ADMIN', 'warn')] : undefined,
      state.paused ? [span('PAUSED', 'warn')] : undefined,
      stale ? [span(`as of ${stale}`, 'warn')] : undefined,
      [span(`${snapshot.takenAt.slice(11, 19)} UTC`, 'dim')],
      still ? undefined : [span(`every ${state.intervalSeconds} s`, 'dim')],
    ],
    Math.max(0, width - 24),
  );
  const name = oneLine(snapshot.context, 40);
  const title: Line = [
    span('feedctl top ', 'strong'),
    span(`${name}${snapshot.production ? ' (production)' : ''} `, 'accent'),
    span(word, tone),
  ];
  const rate = (rateName: RateName): string => {
    if (!figures) return '-';
    const { sliding, tumbling } = figures.rates[rateName];
    return `${formatRate((state.tumbling ? tumbling : sliding)[state.window].perSecond)}/s`;
  };
  const figure = (label: string, text: string, toneOf: Tone = 'strong'): Line => [
    span(`${label} `, 'dim'),
    span(text, toneOf),
  ];
  const latency = figures?.latencyMs[state.window];
  const over = `${state.tumbling ? 'last whole' : 'over'} ${state.window}`;
  const rates = parts(
    [
      figure('posts', rate('planned')),
      figure('deliveries', rate('deliveries')),
      figure('p50', latency ? formatMs(latency.p50) : '-'),
      figure('p99', latency ? formatMs(latency.p99) : '-', (latency?.p99 ?? 0) > 5_000 ? 'warn' : 'strong'),
      [span(over, 'dim')],
      figure('pushed', rate('pushed')),
      figure('made at gateways', rate('created')),
    ],
    width,
  );
  const waiting = backlog ? formatCount(backlog.messages) : '-';
  const lookedAt = backlog && staleText(snapshot, 'queues');
  const eta = lookedAt
    ? ` (${lookedAt})`
    : !backlog || backlog.messages === 0
      ? ''
      : backlog.etaSeconds === null
        ? backlog.stuck
          ? ', not getting shorter'
          : ''
        : backlog.etaSeconds === 0
          ? ', keeps up'
          : `, empty in ${formatDuration(backlog.etaSeconds)}`;
  const deadTone = backlog && backlog.deadLetters > 0 ? 'bad' : 'strong';
  const levels = parts(
    [
      figure('online', figures ? formatCount(figures.sockets) : '-'),
      figure('backlog', waiting + eta, lookedAt || eta.startsWith(', not') ? 'warn' : 'strong'),
      figure('dead', backlog ? formatCount(backlog.deadLetters) : '-', deadTone),
      figure('workers', ratio(snapshot.workers)),
      figure('gateways', ratio(snapshot.gateways)),
      cache
        ? figure(
            'cache',
            `${cache.kind}${cache.readyAt < cache.of ? ' AWAY' : cache.hitRate === null ? '' : ` ${Math.round(cache.hitRate * 100)}%`}`,
            cache.readyAt < cache.of ? 'warn' : 'strong',
          )
        : undefined,
      snapshot.bus ? figure('bus', snapshot.bus) : undefined,
      backlog && backlog.messages > 0 && backlog.oldestAgeMs !== null
        ? figure('oldest', formatDuration(backlog.oldestAgeMs / 1_000))
        : undefined,
    ],
    width,
  );
  return [
    ends(title, right, width),
    rates,
    levels,
    ...sparks(snapshot, width, height),
    ...problems(snapshot, width, height),
  ];
}

const ratio = (rows: readonly { ready: boolean }[] | null): string =>
  rows ? `${rows.filter((row) => row.ready).length}/${rows.length}` : '-';

function sparks({ figures, backlogSeries }: TopSnapshot, width: number, height: number): Line[] {
  if (height < ROOM_FOR_SPARKS) return [];
  const { series } = figures ?? {};
  const all: [string, readonly number[], boolean][] = [
    ['deliveries', series?.deliveries ?? [], true],
    ['backlog', backlogSeries, false],
    ['posts', series?.planned ?? [], true],
    ['pushed', series?.pushed ?? [], true],
    ['errors', series?.errors ?? [], true],
  ];
  const step = series?.stepSeconds ?? 5;
  const one = ([name, values, isRate]: (typeof all)[number], cells: number): Span[] => {
    const bars = Math.max(8, cells - 30);
    const most = Math.max(0, ...values.slice(-bars));
    const highest = isRate ? `${formatRate(Math.round((most * 10) / step) / 10)}/s` : formatCount(most);
    return [
      span(pad(name, 11), 'dim'),
      span(sparkline(values, bars), 'accent'),
      span(pad(` max ${highest}`, 19), 'dim'),
    ];
  };
  if (height >= ROOM_FOR_ALL_SPARKS) return all.map((entry) => one(entry, Math.min(width, 90)));
  if (width < NARROW) return [one(all[0]!, width)];
  const half = Math.floor(width / 2);
  return [[...one(all[0]!, Math.min(half, 90)), ...one(all[1]!, Math.min(half, 90))]];
}

/** What is wrong, the worst first: a row each, as many as the screen bears. */
function problems({ health }: TopSnapshot, width: number, height: number): Line[] {
  const most = height >= ROOM_FOR_ALL_SPARKS ? 6 : height >= ROOM_FOR_SPARKS ? 2 : 1;
  const { length } = health.problems;
  const tone = health.state === 'down' ? 'bad' : 'warn';
  return health.problems.slice(0, most).map((problem, i): Line => {
    const more = i === most - 1 && length > most ? ` (+${length - most} more)` : '';
    return [span(`! ${oneLine(problem, Math.max(4, width - 2 - more.length))}${more}`, tone)];
  });
}

function tabs(snapshot: TopSnapshot, state: ViewState, width: number): Line {
  const list = [{ id: 'overview', title: 'Overview', short: 'All' }, ...PANES];
  const count = (id: string): string => {
    if (id !== state.pane || id === 'overview') return '';
    const rows = paneOf(state.pane as AnyPane['id']).rows(snapshot);
    return rows ? ` ${formatCount(rows.length)}` : '';
  };
  const line = (named: boolean, before: string): Line =>
    list.map(({ id, title, short }, i): Span => {
      const current = id === state.pane;
      const name = current ? ` ${title}${count(id)}` : named ? ` ${short}` : '';
      return span(
        `${before}${i}${name}${i < list.length - 1 || before ? ' ' : ''}`,
        current ? 'selected' : 'dim',
      );
    });
  const candidates = [line(true, ' '), line(true, ''), line(false, ' ')];
  return candidates.find((one) => widthOf(one) <= width) ?? line(false, '');
}

function footer(state: ViewState, screen: Screen): Line[] {
  const { width } = screen;
  const { overlay } = state;
  const prompt = (text: string): Line => [span(text, 'accent'), span('█', 'accent')];
  if (overlay.kind === 'confirm')
    return [
      ...wrap(overlay.question.text, width).map((line): Line => [span(line, 'warn')]),
      prompt(
        screen.admin?.production === undefined
          ? 'y to do it, any other key not to '
          : `type ${screen.admin.production} and enter to confirm: ${overlay.typed}`,
      ),
    ];
  if (overlay.kind === 'ask') return [prompt(`${ASKED[overlay.what]} ${overlay.typed}`)];
  if (overlay.kind === 'filter' && state.pane !== 'overview')
    return [prompt(`filter: ${state.panes[state.pane].filter}`)];
  const told: Line | undefined = state.message
    ? [span(oneLine(state.message.text, width), state.message.tone)]
    : state.busy
      ? [span(`… ${oneLine(state.busy, width - 2)}`, 'accent')]
      : undefined;
  if (told) return [told];
  if (overlay.kind === 'help' || overlay.kind === 'detail')
    return [[span('escape close  up/down scroll', 'dim')]];
  const filter = state.pane === 'overview' ? '' : state.panes[state.pane].filter;
  const hints = KEYS.flatMap(({ hint, admin }) => (hint && (!admin || screen.admin) ? [hint] : []));
  return [
    parts(
      [
        filter ? [span(`filter: ${oneLine(filter, 20)}`, 'accent')] : undefined,
        ...hints.map((hint): Line => [span(hint, 'dim')]),
      ],
      width,
    ),
  ];
}

/** Lines of at most so many cells, broken between words. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [''];
  for (const word of oneLine(text, 4_000).split(' ')) {
    const line = lines.at(-1)!;
    if (line === '') lines[lines.length - 1] = word;
    else if (cellsOf(line) + 1 + cellsOf(word) <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines.flatMap((line) => {
    const pieces: string[] = [];
    let rest = line;
    while (cellsOf(rest) > width && width > 1) {
      const piece = cut(rest, width + 1).slice(0, -1);
      pieces.push(piece);
      rest = rest.slice(piece.length);
    }
    return [...pieces, rest];
  });
}

function bodyOf(snapshot: TopSnapshot, state: ViewState, screen: Screen, room: number): Line[] {
  const { overlay } = state;
  if (overlay.kind === 'help')
    return help(screen).slice(clampOffset(overlay.offset, help(screen).length, room));
  if (state.pane === 'overview') return overview(snapshot, state, screen, room);
  const pane = paneOf(state.pane);
  const own = state.panes[state.pane];
  const rows = orderedRows(pane, snapshot, own, state.window, screen.memory);
  const above = warning(snapshot, state);
  if (!rows || rows.length === 0)
    return [...above, [span(rows ? emptyText(pane, snapshot, own.filter) : 'not known yet', 'dim')]];
  const mark = selectionIn(state.pane, own, rows);
  if (overlay.kind === 'detail') {
    const lines = details(pane, rows[mark], state, screen.width);
    return [...above, ...lines.slice(clampOffset(overlay.offset, lines.length, room))];
  }
  const page = Math.max(1, room - 1 - above.length);
  const first = firstShown(own.offset, mark, page, rows.length);
  return [
    ...above,
    ...table(pane, rows.slice(first, first + page), state, screen.width, {
      titles: undefined,
      marked: mark - first,
      sorted: { column: own.sort ?? defaultSort(pane), reversed: own.reversed },
    }),
  ];
}

const emptyText = (pane: AnyPane, snapshot: TopSnapshot, filter: string): string =>
  filter ? `nothing matches ${JSON.stringify(filter)}: escape takes the filter away` : pane.empty(snapshot);

const clampOffset = (offset: number, lines: number, room: number): number =>
  Math.max(0, Math.min(offset, lines - room));

/** What is shown is older than it should be. */
function warning(snapshot: TopSnapshot, state: ViewState): Line[] {
  if (state.pane === 'overview') return [];
  const source = snapshot.sources.find(({ name }) => name === paneOf(state.pane as AnyPane['id']).source);
  if (!source?.error) return [];
  const age = source.ageMs === null ? 'never answered' : `as it was ${wholeSeconds(source.ageMs)} ago`;
  return [[span(`! ${age}: ${oneLine(source.error.message, 200)}`, 'warn')]];
}

/** Those that fit, the most important first, in their own order; what is left goes to those that grow, the most important first too. */
function layout(pane: AnyPane, width: number): { index: number; width: number }[] {
  const gap = 2;
  let left = width - 2;
  const chosen = new Set<number>();
  for (const { index, column } of pane.columns
    .map((column, index) => ({ column, index }))
    .sort((a, b) => a.column.priority - b.column.priority)) {
    const more = column.width + (chosen.size > 0 ? gap : 0);
    if (more > left) {
      if (chosen.size === 0) chosen.add(index);
      break;
    }
    chosen.add(index);
    left -= more;
  }
  const grown = new Map<number, number>();
  for (const index of chosen) {
    const { width: minWidth, maxWidth = minWidth } = pane.columns[index]!;
    const more = Math.max(0, Math.min(left, maxWidth - minWidth));
    grown.set(index, minWidth + more);
    left -= more;
  }
  return pane.columns.flatMap((_, index) => (chosen.has(index) ? [{ index, width: grown.get(index)! }] : []));
}

function table(
  pane: AnyPane,
  rows: readonly unknown[],
  { window }: ViewState,
  width: number,
  options: {
    /** Stand for the first column's: the first that fits, over what is blank beside it too. */
    titles: readonly string[] | undefined;
    marked: number;
    sorted: { column: number; reversed: boolean } | undefined;
  },
): Line[] {
  const columns = layout(pane, width);
  const { titles, marked, sorted } = options;
  const gap = (i: number) => (i === 0 ? '' : '  ');
  const heads = columns.map(({ index, width: cells }, i) => {
    const column = pane.columns[index]!;
    const arrow = sorted?.column === index ? (sorted.reversed ? '▲' : '▼') : '';
    const name = column.right ? arrow + column.title : column.title + arrow;
    return gap(i) + pad(name, cells, column.right ? 'right' : 'left');
  });
  const named = heads.join('');
  const first = columns[0]?.width ?? 0;
  const blank = /^ */.exec(named.slice(first))![0].length;
  // One column's head is two cells away from the next.
  const room = first + Math.max(0, blank - 2);
  const title = titles?.find((text) => text.length <= room) ?? titles?.at(-1);
  const headText = title === undefined ? named : pad(title, room) + named.slice(room);
  const head: Line = [span(`  ${headText}`, 'head')];
  return [
    head,
    ...rows.map((row, n): Line => {
      const isMarked = n === marked;
      const cells = columns.map(({ index, width: cellsWide }, i): Span => {
        const column = pane.columns[index]!;
        const text = oneLine(column.text(row, window), 1_000);
        const tone = isMarked ? 'selected' : (column.tone?.(row) ?? 'plain');
        return span(gap(i) + pad(text, cellsWide, column.right ? 'right' : 'left'), tone);
      });
      return [span(isMarked ? `${MARK} ` : '  ', isMarked ? 'selected' : 'plain'), ...cells];
    }),
  ];
}

function details(pane: AnyPane, row: unknown, { window }: ViewState, width: number): Line[] {
  const pairs = pane.detail(row, window);
  const label = Math.min(Math.floor(width / 2), Math.max(...pairs.map(([name]) => cellsOf(name))));
  return pairs.flatMap(([name, value]) =>
    wrap(value, Math.max(8, width - label - 4)).map(
      (text, i): Line => [span(`  ${pad(i === 0 ? name : '', label)}  `, 'dim'), span(text)],
    ),
  );
}

function help({ width, admin }: Screen): Line[] {
  const rows = KEYS.filter((key) => admin || !key.admin).map(
    ({ keys, help: text }): Line => [
      span(`  ${pad(keys.join(' '), 18)}`, 'accent'),
      span(cut(text, width - 20)),
    ],
  );
  const notes = [
    'posts are those whose way was decided, whoever made them; made at gateways are those of requests.',
    'p50 and p99: from the commit of a post to that of its feed rows. backlog: messages in all queues.',
    'A source that takes long is asked more seldom: pane 8 says how old what it told is.',
    ...(admin ? [] : ['Started with --admin it may drain, pause, rebuild, mark and scale.']),
  ];
  const text = notes.flatMap((note) => wrap(note, width - 2)).map((line): Line => [span(`  ${line}`, 'dim')]);
  if (width < 120) return [...rows, [], ...text];
  const half = Math.ceil(rows.length / 2);
  const column = Math.floor(width / 2);
  const two = rows.slice(0, half).map((line, i): Line => {
    const shown = cutLine(line, column);
    const used = shown.reduce((sum, part) => sum + cellsOf(part.text), 0);
    return [...shown, span(' '.repeat(column - used)), ...(rows[half + i] ?? [])];
  });
  return [...two, [], ...text];
}

const OVERVIEW = ['queues', 'workers', 'gateways', 'errors', 'operations', 'users', 'shards'] as const;
/** Without any of these a cluster does nothing: that there are none is said. */
const NEEDED: readonly string[] = ['queues', 'workers', 'gateways'];
/** So many of theirs come before the second row of anything else: as many as there are queues on the way of a post. */
const NEEDED_ROWS = 5;

/** The first rows of every pane that has any, each with as many rows as the screen bears. */
function overview(snapshot: TopSnapshot, state: ViewState, screen: Screen, room: number): Line[] {
  const sections = OVERVIEW.map((id) => {
    const pane = paneOf(id);
    const choice = { sort: null, reversed: false, filter: '' };
    const known = orderedRows(pane, snapshot, choice, state.window, overviewMemory(screen.memory));
    return { pane, known: known !== null, rows: known ?? [], shown: 0 };
  }).filter(({ pane, rows }) => rows.length > 0 || NEEDED.includes(pane.id));
  let left = room;
  // A head and a row each, then one more row each for as long as there are any.
  for (const section of sections) {
    if (left < 2) break;
    section.shown = 1;
    left -= 2;
  }
  const share = (of: typeof sections, most: number) => {
    for (let before = -1; left > 0 && before !== left; ) {
      before = left;
      for (const section of of) {
        const { shown, rows } = section;
        if (shown === 0 || shown >= Math.min(rows.length, most) || left === 0) continue;
        section.shown += 1;
        left -= 1;
      }
    }
  };
  share(
    sections.filter(({ pane }) => NEEDED.includes(pane.id)),
    NEEDED_ROWS,
  );
  share(sections, Number.POSITIVE_INFINITY);
  const used = sections.filter(({ shown }) => shown > 0);
  const spaced = left >= used.length - 1;
  return used.flatMap(({ pane, known, rows, shown }, i): Line[] => {
    const all = known ? formatCount(rows.length) : '';
    const stale = staleText(snapshot, pane.source);
    const names = [pane.title, pane.short].map((name) => name.toUpperCase());
    const titles = [
      ...(stale ? [`${names[0]} ${stale}`, `${names[1]} old`] : []),
      ...(rows.length > shown ? [`${names[0]} ${shown} of ${all}`] : []),
      ...names.map((name) => `${name} ${all}`.trim()),
      names[1]!,
    ];
    const space: Line[] = spaced && i > 0 ? [[]] : [];
    if (rows.length === 0)
      return [
        ...space,
        [span(`  ${titles[0]}`, 'head')],
        [span(`  ${known ? pane.empty(snapshot) : 'not known yet'}`, 'dim')],
      ];
    return [
      ...space,
      ...table(pane, chosen(pane, rows, shown), state, screen.width, {
        titles,
        marked: -1,
        sorted: undefined,
      }),
    ];
  });
}

/** So many rows, in their order; those that somebody should look at before others. */
function chosen(pane: AnyPane, rows: readonly unknown[], count: number): readonly unknown[] {
  const { matters } = pane;
  if (!matters || rows.length <= count) return rows.slice(0, count);
  const first = [...rows.filter(matters), ...rows.filter((row) => !matters(row))].slice(0, count);
  return rows.filter((row) => first.includes(row));
}

/** Beside the orders that were chosen in the panes. */
const overviewMemories = new WeakMap<OrderMemory, OrderMemory>();
function overviewMemory(memory: OrderMemory): OrderMemory {
  const known = overviewMemories.get(memory) ?? new Map();
  overviewMemories.set(memory, known);
  return known;
}
