import type { RateName } from '../../engine/stats/process.ts';
import type { WindowName } from '../../engine/stats/windows.ts';
import { formatBytes, formatCompact, formatDuration, formatRate } from '../terminal/format.ts';
import { renderData, type TableOptions } from '../terminal/table.ts';
import type { Tone } from '../top/styledText.ts';

/** A column of a list that a command prints, of a pane of `top`, or of both. */
export interface Column<Row> {
  readonly title: string;
  /** Shows the column in lists only, or in `top` only. Default: in both. */
  readonly only?: 'list' | 'top';
  /** Cells in `top`. A column that grows takes free cells, up to `maxWidth`. */
  readonly width: number;
  readonly maxWidth?: number;
  readonly right?: boolean;
  /** Rank in `top`: 0 is always shown. A narrow screen drops the highest number first. */
  readonly priority: number;
  readonly text: (row: Row, window: WindowName) => string;
  /** Text in a list, where a column is as wide as its longest text. Default: `text`. */
  readonly longText?: (row: Row) => string;
  /** Sort key of `top`: numbers begin with the greatest. Default: `text`. */
  readonly value?: (row: Row, window: WindowName) => string | number | null;
  readonly tone?: (row: Row) => Tone;
}

interface NumberColumn<Row> extends Pick<Column<Row>, 'title' | 'only' | 'width' | 'priority' | 'tone'> {
  readonly of: (row: Row, window: WindowName) => number | null;
  readonly format: (value: number) => string;
}

/** A right-aligned column of numbers, with a dash for a number that is not known. */
export const numberColumn = <Row>({ of, format, ...column }: NumberColumn<Row>): Column<Row> => ({
  ...column,
  right: true,
  text: (row, window) => {
    const value = of(row, window);
    if (value === null) return '-';
    const text = format(value);
    // A number without its last digits is a wrong number.
    return text.length > column.width ? formatCompact(value) : text;
  },
  longText: (row) => {
    const value = of(row, LIST_WINDOW);
    return value === null ? '-' : format(value);
  },
  value: of,
});

/** Lists print no rates over a window that the reader chooses. */
const LIST_WINDOW: WindowName = '1m';

/** The table that a command prints. */
export function renderList<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: TableOptions,
): string {
  const shown = columns.filter(({ only }) => only !== 'top');
  const table = {
    head: shown.map(({ title }) => title),
    cells: rows.map((row) =>
      shown.map(({ text, longText }) => (longText ? longText(row) : text(row, LIST_WINDOW))),
    ),
    values: rows.map((row) => shown.map((column) => plainValue(column, row))),
    rightAligned: shown.map(({ right }) => right === true),
    tones: rows.map((row) => shown.map(({ tone }) => tone?.(row))),
  };
  return renderData(table, options);
}

/** A number without its unit (ms, bytes, a second) for programs; the text of a column of texts. */
function plainValue<Row>({ right, value, text, longText }: Column<Row>, row: Row): string | number | null {
  if (!right || !value) return longText ? longText(row) : text(row, LIST_WINDOW);
  const number = value(row, LIST_WINDOW);
  return typeof number === 'number' && Number.isFinite(number) ? number : null;
}

/** The columns of a pane of `top`. */
export const topColumns = <Row>(columns: readonly Column<Row>[]): readonly Column<Row>[] =>
  columns.filter(({ only }) => only !== 'list');

export const readiness = (row: { ready: boolean }): string => (row.ready ? 'ready' : 'NOT READY');
const readyTone = (row: { ready: boolean }): Tone => (row.ready ? 'ok' : 'bad');
export const STATE_COLUMN: Column<{ ready: boolean }> = {
  title: 'state',
  width: 9,
  priority: 1,
  text: readiness,
  tone: readyTone,
};

export const ago = (ms: number): string => formatDuration(ms / 1_000);
export const HEARTBEAT_COLUMN: Column<{ heartbeatAgeMs: number }> = {
  title: 'heartbeat',
  only: 'list',
  width: 10,
  right: true,
  priority: 12,
  text: (row) => `${ago(row.heartbeatAgeMs)} ago`,
  value: (row) => row.heartbeatAgeMs,
};

/** The statistics of a process: null if it reports none, left out by lists, which do not read them. */
export interface Working {
  readonly work?: {
    readonly perSecond: { readonly [rate in RateName]?: { readonly [window in WindowName]: number } };
    readonly cpu: number;
    readonly memoryBytes: number;
  } | null;
}

export const shareText = (share: number): string => `${Math.round(share * 100)}%`;
export const sizeText = (bytes: number | null): string => (bytes === null ? '-' : formatBytes(bytes));
export const rateText = (value: number | null): string => (value === null ? '-' : formatRate(value));

export const perSecond = ({ work }: Working, rate: RateName, window: WindowName): number | null =>
  work ? (work.perSecond[rate]?.[window] ?? 0) : null;

/** A column of a rate of the process over the window. */
export const rateColumn = (
  rate: RateName,
  column: Pick<Column<Working>, 'title' | 'width' | 'priority'>,
): Column<Working> =>
  numberColumn({
    ...column,
    only: 'top',
    of: (row, window) => perSecond(row, rate, window),
    format: formatRate,
  });

/** Share of one core. */
export const CPU_COLUMN = numberColumn<Working>({
  title: 'cpu',
  only: 'top',
  width: 4,
  priority: 4,
  of: (row) => row.work?.cpu ?? null,
  format: shareText,
  tone: (row) => ((row.work?.cpu ?? 0) > 0.7 ? 'warn' : 'plain'),
});
