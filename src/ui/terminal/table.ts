import Table from 'cli-table3';

const NO_BORDERS = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
    .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'])
    .map((part) => [part, part === 'middle' ? '  ' : '']),
);

/** `tight`: one space between columns, and one line a word of the head. */
type Look = 'bordered' | 'bare' | 'tight';

export interface TableOptions {
  /** The table is for a terminal. */
  readonly borders: boolean;
  /** Columns of the terminal. Default: those of stdout. */
  readonly width?: number;
  /** Never prints one field a line, even if the table is wider than the terminal. */
  readonly rowsOnly?: boolean;
  /** Columns that are right-aligned. Default: those with only numbers. */
  readonly rightAligned?: readonly boolean[];
}

/**
 * Prints one record a row, with borders on a terminal and without them in a pipe. A table that is
 * wider than the terminal loses its borders first, then space. If that is not enough, each field is
 * one line: wrapped rows are hard to read, and shortened ids cannot be copied.
 */
export function renderTable(head: string[], rows: (string | number)[][], options: TableOptions): string {
  // Terminals that do not report their width report 0.
  const width = (options.borders && (options.width ?? process.stdout.columns)) || Number.POSITIVE_INFINITY;
  const cells = rows.map((row) =>
    row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell)),
  );
  const rightAligned =
    options.rightAligned ??
    head.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'));
  const draw = (look: Look) => drawTable(head, cells, rightAligned, look);
  const widest = draw(options.borders ? 'bordered' : 'bare');
  if (fits(widest, width)) return widest;
  const bare = draw('bare');
  if (fits(bare, width)) return bare;
  const tight = draw('tight');
  return fits(tight, width) || options.rowsOnly || rows.length === 0 ? tight : records(head, cells);
}

const fits = (text: string, width: number): boolean => text.split('\n').every((line) => line.length <= width);

function drawTable(head: string[], cells: string[][], rightAligned: readonly boolean[], look: Look): string {
  const table = new Table({
    head: look === 'tight' ? head.map((name) => name.replaceAll(' ', '\n')) : head,
    style: {
      head: [],
      border: [],
      ...(look === 'bordered' ? { compact: true } : { 'padding-left': 0, 'padding-right': 0 }),
    },
    ...(look === 'bordered' ? {} : { chars: look === 'bare' ? NO_BORDERS : { ...NO_BORDERS, middle: ' ' } }),
    colAligns: rightAligned.map((right) => (right ? 'right' : 'left')),
  });
  table.push(...cells);
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** One field a line. Leaves out fields without a value, except the first. */
function records(head: string[], cells: string[][]): string {
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
