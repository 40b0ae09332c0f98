import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { cellsOf, pad, wrap } from '../terminal/cells.ts';
import { oneLine } from '../terminal/format.ts';
import { chartLines } from './charts.ts';
import { columnLines } from './columnChoice.ts';
import { footer, MAX_TEXT } from './footer.ts';
import { header } from './header.ts';
import { help } from './help.ts';
import { overview } from './overview.ts';
import { paletteLines } from './palette.ts';
import { type AnyPane, defaultSort, type PaneId } from './pane.ts';
import { paneOf } from './panes.ts';
import { paneTable } from './paneTable.ts';
import type { Screen } from './screen.ts';
import { orderedRows } from './sorting.ts';
import { sourceWarning } from './sources.ts';
import { type Line, span } from './styledText.ts';
import { tabLine } from './tabs.ts';
import { Trends } from './trends.ts';
import { firstShown, selectionIn, type ViewState } from './viewState.ts';

/** Rows that a table keeps if charts are above it. */
const MIN_ROWS_BELOW_CHARTS = 8;
/** Rooms that are higher have charts of two rows. */
const MIN_ROOM_FOR_HIGH_CHARTS = 30;

/** What is where on the screen. */
export interface Layout {
  readonly head: readonly Line[];
  readonly body: readonly Line[];
  readonly foot: readonly Line[];
  /** Rows between head and foot. */
  readonly room: number;
  /** Row of the screen with the tabs. */
  readonly tabsAt: number;
  /** The rows of a table: row of the screen, index of the first one, number, and room for them. */
  readonly table: { readonly at: number; readonly first: number; readonly count: number } | null;
  /** Rows of a table that fit. */
  readonly page: number;
}

interface Body {
  readonly lines: readonly Line[];
  readonly table?: Layout['table'];
  readonly page?: number;
}

export function layOut(snapshot: TopSnapshot, state: ViewState, screen: Screen): Layout {
  const top = header(snapshot, state, screen);
  const head = [...top, tabLine(snapshot, state.pane, screen.width)];
  const foot = footer(state, screen);
  const room = Math.max(0, screen.height - head.length - foot.length);
  const { lines, table = null, page } = bodyOf(snapshot, state, screen, room);
  return {
    head,
    body: lines.slice(0, room),
    foot,
    room,
    tabsAt: top.length,
    table: table && { ...table, at: head.length + table.at },
    page: page ?? Math.max(1, room - 1),
  };
}

export function bodyOf(snapshot: TopSnapshot, state: ViewState, screen: Screen, room: number): Body {
  const { overlay, pane } = state;
  const { width, admin } = screen;
  if (overlay.kind === 'help') {
    const lines = help(screen);
    return { lines: lines.slice(clampOffset(overlay.offset, lines.length, room)), page: room };
  }
  if (overlay.kind === 'palette') return { lines: paletteLines(state, admin !== undefined, width, room) };
  if (pane === 'overview') return { lines: overview(snapshot, state, screen, room) };
  if (overlay.kind === 'columns') {
    const lines = columnLines(paneOf(pane), state.panes[pane], overlay.index);
    return { lines: lines.slice(clampOffset(overlay.index - room + 1, lines.length, room)) };
  }
  return paneBody(pane, snapshot, state, screen, room);
}

function paneBody(id: PaneId, snapshot: TopSnapshot, state: ViewState, screen: Screen, room: number): Body {
  const { overlay, window } = state;
  const pane = paneOf(id);
  const choice = state.panes[id];
  const rows = orderedRows(pane, snapshot, choice, window, screen.memory);
  const warning = sourceWarning(snapshot, pane);
  if (!rows || rows.length === 0) {
    const text = rows ? emptyText(pane, snapshot, choice.filter) : 'not known yet';
    return { lines: [...warning, [span(text, 'dim')]] };
  }
  const selection = selectionIn(id, choice, rows);
  if (overlay.kind === 'detail') {
    const lines = details(pane, rows[selection], state, screen.width);
    const left = room - warning.length;
    return {
      lines: [...warning, ...lines.slice(clampOffset(overlay.offset, lines.length, left))],
      page: Math.max(1, left),
    };
  }
  const above = [...warning, ...paneCharts(pane, snapshot, state, screen, room - warning.length)];
  const page = Math.max(1, room - 1 - above.length);
  const first = firstShown(choice.offset, selection, page, rows.length);
  const shown = rows.slice(first, first + page);
  const table = paneTable(pane, shown, state, screen.width, {
    selected: selection - first,
    sorted: { column: choice.sort ?? defaultSort(pane), reversed: choice.reversed },
    hidden: choice.hidden,
  });
  return {
    lines: [...above, ...table],
    table: { at: above.length + 1, first, count: shown.length },
    page,
  };
}

function paneCharts(
  pane: AnyPane,
  snapshot: TopSnapshot,
  { window }: ViewState,
  { width, trends = Trends.of(snapshot) }: Screen,
  room: number,
): Line[] {
  if (!pane.charts) return [];
  const rows = room >= MIN_ROOM_FOR_HIGH_CHARTS ? 2 : 1;
  const lines = chartLines(snapshot, trends, pane.charts, { width, window, rows, beside: 2 });
  return room - lines.length - 1 >= MIN_ROWS_BELOW_CHARTS ? lines : [];
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
