import Table from 'cli-table3';

const NO_BORDERS = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
    .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'])
    .map((part) => [part, part === 'middle' ? '  ' : '']),
);

/** Tight: one space between columns, and each word of a head on a line of its own. */
type Look = 'bordered' | 'bare' | 'tight';

export interface TableOptions {
  /** Whether it is for a terminal. */
  readonly borders: boolean;
  /** Columns of the terminal; those of stdout unless said. */
  readonly width?: number;
  /** Never prints one field a line, even if the table is wider than the terminal. */
  readonly rowsOnly?: boolean;
  /** Columns that are right-aligned. Default: those with only numbers. */
  readonly rightAligned?: readonly boolean[];
}

/**
 * One record a row. Borders are for people: a pipe gets columns only. On a terminal that is too narrow the borders go first, then space; where
 * that is not enough, each field has a line of its own, as wrapped rows cannot be read and ids that are cut cannot be copied.
 */
export function renderTable(head: string[], rows: (string | number)[][], options: TableOptions): string {
  // A terminal that does not say how wide it is says 0.
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

/** Fields without a value are left out, except that a record is never nothing. */
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
