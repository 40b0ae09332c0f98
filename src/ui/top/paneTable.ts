import { cellsOf, pad } from '../terminal/cells.ts';
import { oneLine } from '../terminal/format.ts';
import type { AnyPane } from './pane.ts';
import { type Line, type Span, span } from './styledText.ts';
import type { ViewState } from './viewState.ts';

const SELECTED = '›';
/** Cells between two columns. */
const GAP = 2;
/** Cells before the first column, for the sign of the selected row. */
const MARGIN = 2;
/** Longer texts of others are cut before their width is measured. */
const MAX_TEXT = 1_000;

interface Placed {
  readonly index: number;
  readonly width: number;
}

/**
 * The columns that fit, in their own order: the lowest priorities first. Free cells go to columns
 * that grow, in the same order of priority.
 */
function placeColumns({ columns }: AnyPane, width: number, hidden: readonly string[]): Placed[] {
  let left = width - MARGIN;
  const chosen = new Set<number>();
  const wanted = columns.flatMap(({ title }, i) => (hidden.includes(title) ? [] : [i]));
  for (const index of wanted.sort((a, b) => columns[a]!.priority - columns[b]!.priority)) {
    const needed = columns[index]!.width + (chosen.size > 0 ? GAP : 0);
    // The first column is shown even if it does not fit.
    if (needed > left && chosen.size > 0) break;
    chosen.add(index);
    left -= needed;
    if (left < 0) break;
  }
  left = Math.max(0, left);
  const widths = new Map<number, number>();
  for (const index of chosen) {
    const { width: minWidth, maxWidth = minWidth } = columns[index]!;
    const growth = Math.max(0, Math.min(left, maxWidth - minWidth));
    widths.set(index, minWidth + growth);
    left -= growth;
  }
  return columns.flatMap((_, index) => (chosen.has(index) ? [{ index, width: widths.get(index)! }] : []));
}

export interface TableOptions {
  /**
   * Titles that replace that of the first column. The first one that fits is shown; it may cover
   * the blank cells right of the column too.
   */
  readonly titles?: readonly string[];
  /** Index of the selected row. */
  readonly selected?: number;
  readonly sorted?: { column: number; reversed: boolean };
  /** Titles of columns that are left out. */
  readonly hidden?: readonly string[];
}

/** A head and a line for each of the rows. */
export function paneTable(
  pane: AnyPane,
  rows: readonly unknown[],
  { window }: ViewState,
  width: number,
  options: TableOptions = {},
): Line[] {
  const placed = placeColumns(pane, width, options.hidden ?? []);
  return [
    headLine(pane, placed, options),
    ...rows.map((row, n): Line => {
      const isSelected = n === options.selected;
      const cells = placed.map(({ index, width: cellsWide }, i): Span => {
        const column = pane.columns[index]!;
        const texts = column.texts?.(row) ?? [column.text(row, window)];
        const fitting = texts.find((candidate) => cellsOf(candidate) <= cellsWide) ?? texts.at(-1)!;
        const text = oneLine(fitting, MAX_TEXT);
        const tone = isSelected ? 'selected' : (column.tone?.(row) ?? 'plain');
        return span(gapBefore(i) + pad(text, cellsWide, column.right ? 'right' : 'left'), tone);
      });
      return [
        span(isSelected ? `${SELECTED} ` : ' '.repeat(MARGIN), isSelected ? 'selected' : 'plain'),
        ...cells,
      ];
    }),
  ];
}

const gapBefore = (column: number): string => (column === 0 ? '' : ' '.repeat(GAP));

function headLine({ columns }: AnyPane, placed: readonly Placed[], { titles, sorted }: TableOptions): Line {
  const text = placed
    .map(({ index, width }, i) => {
      const { title, right } = columns[index]!;
      const arrow = sorted?.column === index ? (sorted.reversed ? '▲' : '▼') : '';
      return gapBefore(i) + pad(right ? arrow + title : title + arrow, width, right ? 'right' : 'left');
    })
    .join('');
  const first = placed[0]?.width ?? 0;
  const blank = /^ */.exec(text.slice(first))![0].length;
  // The gap before the next title stays.
  const room = first + Math.max(0, blank - GAP);
  const title = titles?.find((candidate) => candidate.length <= room) ?? titles?.at(-1);
  const shown = title === undefined ? text : pad(title, room) + text.slice(room);
  return [span(' '.repeat(MARGIN) + shown, 'head')];
}
