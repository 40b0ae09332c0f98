import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { WindowName } from '../../engine/stats/windows.ts';
import { pad } from '../terminal/cells.ts';
import { barRows, spread, timeAxis } from './chart.ts';
import { type Line, type Span, span } from './styledText.ts';
import { STEP_MS, TRENDS, type TrendName, type Trends } from './trends.ts';

/** Cells of the name of a chart, and of its scale. */
const NAME = 11;
const SCALE = 13;
const GAP = 2;
/** A narrower screen has one chart beside another only if each keeps a dozen bars. */
const MIN_WIDTH_FOR_TWO = 76;

/** Steps that charts cover: longer windows show a longer time. */
const STEPS: { readonly [window in WindowName]: number } = { '1s': 60, '1m': 60, '5m': 180, '1h': 720 };

export interface ChartOptions {
  readonly width: number;
  readonly window: WindowName;
  /** Rows of each chart. */
  readonly rows: number;
  /** Charts beside each other, if the screen is wide enough. */
  readonly beside: number;
}

/** Charts in a grid that is as wide as the screen, with one time axis below each column. */
export function chartLines(
  snapshot: TopSnapshot,
  trends: Trends,
  names: readonly TrendName[],
  { width, window, rows, beside }: ChartOptions,
): Line[] {
  const columns = width < MIN_WIDTH_FOR_TWO ? 1 : Math.min(beside, names.length);
  const cells = Math.floor((width - GAP * (columns - 1)) / columns);
  const steps = STEPS[window];
  const grid = Array.from({ length: Math.ceil(names.length / columns) }, (_, i) =>
    names.slice(i * columns, (i + 1) * columns),
  );
  const lines = grid.flatMap((row) =>
    sideBySide(row.map((name) => chart(name, trends.until(snapshot, name, steps), cells, rows))),
  );
  const axis: Line[] = [axisLine((steps * STEP_MS) / 1_000, cells)];
  return [...lines, ...sideBySide(Array.from({ length: columns }, () => axis))];
}

const sideBySide = (blocks: readonly (readonly Line[])[]): Line[] =>
  (blocks[0] ?? []).map((_, row) =>
    blocks.flatMap((block, i): Span[] => [...(i > 0 ? [span(' '.repeat(GAP))] : []), ...block[row]!]),
  );

function chart(name: TrendName, values: readonly (number | null)[], width: number, rows: number): Line[] {
  const { title, format } = TRENDS[name];
  const fixed = 'most' in TRENDS[name] ? (TRENDS[name] as { most: number }).most : undefined;
  const shown = spread(values, Math.max(1, width - NAME - SCALE));
  const known = shown.filter((value) => value !== null);
  const most = fixed ?? Math.max(0, ...known);
  return barRows(shown, rows, most).map((bars, row): Line => {
    const scale =
      known.length === 0
        ? unknownText(row, rows)
        : rows === 1
          ? `0..${format(most)}`
          : scaleText(row, rows, format(most));
    return [
      span(pad(row === 0 ? title : '', NAME), 'dim'),
      span(bars, 'accent'),
      span(` ${pad(scale, SCALE - 1)}`, 'dim'),
    ];
  });
}

const unknownText = (row: number, rows: number): string => (row === rows - 1 ? '-' : '');

/** The greatest value at the top, and zero at the bottom. */
const scaleText = (row: number, rows: number, most: string): string => {
  if (row === 0) return most;
  return row === rows - 1 ? '0' : '';
};

const axisLine = (seconds: number, width: number): Line => {
  const cells = Math.max(1, width - NAME - SCALE);
  return [span(`${' '.repeat(NAME)}${timeAxis(seconds, cells)}${' '.repeat(SCALE)}`, 'dim')];
};
