import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { cellsOf, cut, pad, wrap } from '../terminal/cells.ts';
import { formatCount, oneLine } from '../terminal/format.ts';
import { PROMPTS } from './actions.ts';
import { header } from './header.ts';
import { overview } from './overview.ts';
import { type AnyPane, defaultSort, PANES, paneOf } from './panes.ts';
import { paneTable } from './paneTable.ts';
import type { Screen } from './screen.ts';
import { orderedRows } from './sorting.ts';
import { sourceWarning } from './sources.ts';
import { firstShown, KEYS, selectionIn, type ViewState } from './state.ts';
import { cutLine, type Line, parts, type Span, span, widthOf } from './styledText.ts';

/** Longest value of the detail of a row, and longest question. */
const MAX_TEXT = 4_000;
/** A wider screen shows the keys in two columns. */
const MIN_WIDTH_FOR_TWO_COLUMNS = 120;

/**
 * Returns exactly as many rows as the screen has, none wider than the screen. A pure function: equal
 * arguments return equal frames.
 */
export function frame(snapshot: TopSnapshot, state: ViewState, screen: Screen): Line[] {
  const { width, height } = screen;
  const head = [...header(snapshot, state, screen), tabs(snapshot, state, width)];
  const foot = footer(state, screen);
  const room = Math.max(0, height - head.length - foot.length);
  const body = bodyOf(snapshot, state, screen, room).slice(0, room);
  const blank = Array.from({ length: room - body.length }, (): Line => []);
  return [...head, ...body, ...blank, ...foot].slice(0, height).map((line) => cutLine(line, width));
}

/** The overview without rows for keys, as high as it needs to be, with every source that did not answer. */
export function report(snapshot: TopSnapshot, state: ViewState, screen: Screen): Line[] {
  const missing = snapshot.sources.filter(({ ageMs, error }) => error || ageMs === null);
  const titles = ['NO ANSWER'];
  const faults = paneTable(paneOf('sources'), missing, state, screen.width, { titles });
  return [
    ...header(snapshot, state, screen),
    ...bodyOf(snapshot, state, screen, screen.height),
    ...(missing.length > 0 ? [[], ...faults] : []),
  ].map((line) => cutLine(line, screen.width));
}

/** Rows of a pane that fit on the screen. */
export function pageRows(snapshot: TopSnapshot, state: ViewState, screen: Screen): number {
  const around = header(snapshot, state, screen).length + 1 + footer(state, screen).length;
  const warning = state.pane === 'overview' ? [] : sourceWarning(snapshot, paneOf(state.pane));
  return Math.max(1, screen.height - around - 1 - warning.length);
}

function tabs(snapshot: TopSnapshot, state: ViewState, width: number): Line {
  const list = [{ id: 'overview', title: 'Overview', short: 'All' }, ...PANES];
  const rows = state.pane === 'overview' ? null : paneOf(state.pane).rows(snapshot);
  const count = rows ? ` ${formatCount(rows.length)}` : '';
  const line = (named: boolean, before: string): Line =>
    list.map(({ id, title, short }, i): Span => {
      const current = id === state.pane;
      const name = current ? ` ${title}${count}` : named ? ` ${short}` : '';
      const after = i < list.length - 1 || before ? ' ' : '';
      return span(`${before}${i}${name}${after}`, current ? 'selected' : 'dim');
    });
  const candidates = [line(true, ' '), line(true, ''), line(false, ' ')];
  return candidates.find((one) => widthOf(one) <= width) ?? line(false, '');
}

const prompt = (text: string): Line => [span(text, 'accent'), span('█', 'accent')];

/** The last rows: a question or a prompt, else the message of the last key, else the keys. */
function footer(state: ViewState, screen: Screen): Line[] {
  const { overlay, message, busy, pane } = state;
  const { width } = screen;
  if (overlay.kind === 'confirm') {
    const name = screen.admin?.production;
    const question = wrap(oneLine(overlay.question.text, MAX_TEXT), width);
    const answer =
      name === undefined
        ? 'y to do it, any other key not to '
        : `type ${name} and enter to confirm: ${overlay.typed}`;
    return [...question.map((line): Line => [span(line, 'warn')]), prompt(answer)];
  }
  if (overlay.kind === 'ask') return [prompt(`${PROMPTS[overlay.what]} ${overlay.typed}`)];
  if (overlay.kind === 'filter' && pane !== 'overview')
    return [prompt(`filter: ${state.panes[pane].filter}`)];
  if (message) return [[span(oneLine(message.text, width), message.tone)]];
  if (busy) return [[span(`… ${oneLine(busy, width - 2)}`, 'accent')]];
  if (overlay.kind === 'help' || overlay.kind === 'detail')
    return [[span('escape close  up/down scroll', 'dim')]];
  return [hints(state, screen)];
}

function hints({ pane, panes }: ViewState, { width, admin }: Screen): Line {
  const filter = pane === 'overview' ? '' : panes[pane].filter;
  const keys = KEYS.flatMap((key): Line[] =>
    key.hint && (!key.admin || admin) ? [[span(key.hint, 'dim')]] : [],
  );
  return parts([filter ? [span(`filter: ${oneLine(filter, 20)}`, 'accent')] : undefined, ...keys], width);
}

function bodyOf(snapshot: TopSnapshot, state: ViewState, screen: Screen, room: number): Line[] {
  const { overlay } = state;
  if (overlay.kind === 'help') {
    const lines = help(screen);
    return lines.slice(clampOffset(overlay.offset, lines.length, room));
  }
  if (state.pane === 'overview') return overview(snapshot, state, screen, room);
  const pane = paneOf(state.pane);
  const choice = state.panes[state.pane];
  const rows = orderedRows(pane, snapshot, choice, state.window, screen.memory);
  const above = sourceWarning(snapshot, pane);
  if (!rows || rows.length === 0)
    return [...above, [span(rows ? emptyText(pane, snapshot, choice.filter) : 'not known yet', 'dim')]];
  const selection = selectionIn(state.pane, choice, rows);
  if (overlay.kind === 'detail') {
    const lines = details(pane, rows[selection], state, screen.width);
    return [...above, ...lines.slice(clampOffset(overlay.offset, lines.length, room))];
  }
  const page = Math.max(1, room - 1 - above.length);
  const first = firstShown(choice.offset, selection, page, rows.length);
  return [
    ...above,
    ...paneTable(pane, rows.slice(first, first + page), state, screen.width, {
      selected: selection - first,
      sorted: { column: choice.sort ?? defaultSort(pane), reversed: choice.reversed },
    }),
  ];
}

const emptyText = (pane: AnyPane, snapshot: TopSnapshot, filter: string): string =>
  filter ? `nothing matches ${JSON.stringify(filter)}: escape removes the filter` : pane.empty(snapshot);

const clampOffset = (offset: number, lines: number, room: number): number =>
  Math.max(0, Math.min(offset, lines - room));

function details(pane: AnyPane, row: unknown, { window }: ViewState, width: number): Line[] {
  const pairs = pane.detail(row, window);
  const label = Math.min(Math.floor(width / 2), Math.max(...pairs.map(([name]) => cellsOf(name))));
  return pairs.flatMap(([name, value]) =>
    wrap(oneLine(value, MAX_TEXT), Math.max(8, width - label - 4)).map(
      (text, i): Line => [span(`  ${pad(i === 0 ? name : '', label)}  `, 'dim'), span(text)],
    ),
  );
}

const NOTES = [
  'posts: posts planned, from any source. made at gateways: posts of requests.',
  'p50 and p99: from the commit of a post to the commit of its feed rows. backlog: messages in all queues.',
  'A slow source is read less often. Pane 8 shows how old its last answer is.',
];
const READ_ONLY_NOTE = 'Start with --admin to drain, pause, rebuild, mark and scale.';

function help({ width, admin }: Screen): Line[] {
  const rows = KEYS.filter((key) => admin || !key.admin).map(
    ({ keys, help: text }): Line => [
      span(`  ${pad(keys.join(' '), 18)}`, 'accent'),
      span(cut(text, width - 20)),
    ],
  );
  const notes = [...NOTES, ...(admin ? [] : [READ_ONLY_NOTE])]
    .flatMap((note) => wrap(note, width - 2))
    .map((line): Line => [span(`  ${line}`, 'dim')]);
  return [...(width < MIN_WIDTH_FOR_TWO_COLUMNS ? rows : twoColumns(rows, width)), [], ...notes];
}

function twoColumns(rows: readonly Line[], width: number): Line[] {
  const half = Math.ceil(rows.length / 2);
  const column = Math.floor(width / 2);
  return rows.slice(0, half).map((line, i): Line => {
    const shown = cutLine(line, column);
    return [...shown, span(' '.repeat(column - widthOf(shown))), ...(rows[half + i] ?? [])];
  });
}
