import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import { paint, span, type Tone } from '../top/styledText.ts';
import { cellsOf, cut } from './cells.ts';
import { csvText } from './csv.ts';
import { namesOf, pickColumns } from './pick.ts';
import { shortened } from './shorten.ts';
import { stateTone } from './states.ts';
import type { TableData } from './tableData.ts';

const PARTS = ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left'].concat([
  'bottom-right',
  'left',
  'left-mid',
  'mid',
  'mid-mid',
  'right',
  'right-mid',
  'middle',
]);
const charsOf = (of: (part: string) => string) => Object.fromEntries(PARTS.map((part) => [part, of(part)]));

const NO_BORDERS = charsOf((part) => (part === 'middle' ? '  ' : ''));
const TIGHT = charsOf((part) => (part === 'middle' ? ' ' : ''));
const ASCII_BORDERS = charsOf((part) => {
  if (['left', 'right', 'middle'].includes(part)) return '|';
  return ['top', 'bottom', 'mid'].includes(part) ? '-' : '+';
});

/** Columns with text are not cut to fewer cells than this. */
const MIN_TEXT = 12;

/** `tight`: one space between columns, and one line a word of the head. */
type Look = 'bordered' | 'bare' | 'tight';
/** Says that a reader wants nothing but the table. */
export interface TableOnly {
  readonly form: string;
  /** Titles of columns, with commas between them. Default: all. */
  readonly columns: string | undefined;
  readonly print: (text: string) => void;
}

export interface TableOptions {
  /** The table is for a terminal. */
  readonly borders: boolean;
  /** Columns of the terminal. Default: those of stdout. */
  readonly width?: number;
  /** Never prints one field a line, even if the table is wider than the terminal. */
  readonly rowsOnly?: boolean;
  /** Columns that are right-aligned. Default: those with only numbers. */
  readonly rightAligned?: readonly boolean[];
  /** Draws borders with ASCII characters. */
  readonly ascii?: boolean;
  readonly colours?: boolean;
  /** Shortens nothing, even if the table is wider than the terminal. */
  readonly whole?: boolean;
  /** Default: true. */
  readonly headers?: boolean;
  /** Prints the table in another form in place of returning it. */
  readonly only?: TableOnly;
}

/** Renders one record a row. Without borders, as in a pipe, the table is as wide as its texts. */
export function renderTable(head: string[], rows: (string | number)[][], options: TableOptions): string {
  const rightAligned =
    options.rightAligned ??
    head.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'));
  const cells = rows.map((row) =>
    row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell)),
  );
  const tones = cells.map((row) => row.map((cell, column) => stateTone(head[column]!, cell)));
  return renderData({ head, cells, values: rows, rightAligned, tones }, options);
}

/**
 * Renders a table. One that is wider than the terminal loses its borders, then ids, URLs and times become
 * shorter, then texts are cut. If that is not enough, each field is one line.
 */
export function renderData(table: TableData, options: TableOptions): string {
  const { only, ...others } = options;
  if (only) {
    only.print(formed(table, only, others));
    return '';
  }
  // Terminals that do not report their width report 0.
  const width = (options.borders && (options.width ?? process.stdout.columns)) || Number.POSITIVE_INFINITY;
  const look: Look = options.borders ? 'bordered' : 'bare';
  const whole = draw(table, look, options);
  if (fits(whole, width)) return whole;
  if (options.whole) return draw(table, 'bare', options);
  const short = { ...table, cells: shortened(table.cells) };
  for (const [shown, style] of [
    [table, 'bare'],
    [short, 'bordered'],
    [short, 'bare'],
  ] as const) {
    const drawn = draw(shown, style, options);
    if (fits(drawn, width)) return drawn;
  }
  const narrow = draw(cutToFit(short, width), 'tight', options);
  if (fits(narrow, width) || options.rowsOnly || table.cells.length === 0) return narrow;
  return records(table);
}

function formed(table: TableData, { form, columns }: TableOnly, options: TableOptions): string {
  if (form === 'name') return namesOf(table).join('\n');
  const picked = columns === undefined ? table : pickColumns(table, columns.split(','));
  return form === 'csv' ? csvText(picked, { headers: options.headers ?? true }) : renderData(picked, options);
}

const fits = (text: string, width: number): boolean =>
  text.split('\n').every((line) => cellsOf(stripVTControlCharacters(line)) <= width);

function draw(table: TableData, look: Look, options: TableOptions): string {
  const { ascii = false, colours = false, headers = true } = options;
  const chars = look === 'bare' ? NO_BORDERS : look === 'tight' ? TIGHT : ascii ? ASCII_BORDERS : {};
  const head = look === 'tight' ? table.head.map((name) => name.replaceAll(' ', '\n')) : [...table.head];
  const drawn = new Table({
    ...(headers && { head }),
    style: {
      head: [],
      border: [],
      ...(look === 'bordered' ? { compact: true } : { 'padding-left': 0, 'padding-right': 0 }),
    },
    chars,
    colAligns: table.rightAligned.map((right) => (right ? 'right' : 'left')),
  });
  const painted = (cell: string, tone: Tone | undefined) =>
    colours && tone ? paint([span(cell, tone)], true) : cell;
  drawn.push(
    ...table.cells.map((row, at) => row.map((cell, column) => painted(cell, table.tones[at]?.[column]))),
  );
  const text = drawn
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
  return ascii ? text.replaceAll('…', '~') : text;
}

/** Cuts the widest texts until the table fits. Numbers stay whole. */
function cutToFit(table: TableData, width: number): TableData {
  const { head, cells, rightAligned } = table;
  const widths = head.map((name, column) =>
    Math.max(
      ...name.split(' ').map((word) => word.length),
      ...cells.map((row) => cellsOf(row[column] ?? '')),
    ),
  );
  const total = () => widths.reduce((sum, one) => sum + one, widths.length - 1);
  while (total() > width) {
    const most = Math.max(...widths.filter((_, column) => !rightAligned[column]));
    if (most <= MIN_TEXT) break;
    widths[widths.findIndex((one, column) => one === most && !rightAligned[column])]! -= 1;
  }
  return { ...table, cells: cells.map((row) => row.map((cell, column) => cut(cell, widths[column]!))) };
}

/** One field a line. Leaves out fields without a value, except the first. */
function records({ head, cells }: TableData): string {
  const label = Math.max(...head.map((name) => name.length));
  return cells
    .map((row) =>
      row
        .map((cell, column) => `${(head[column] ?? '').padEnd(label)}  ${cell}`)
        .filter((_, column) => column === 0 || row[column] !== '')
        .join('\n'),
    )
    .join('\n\n');
}
