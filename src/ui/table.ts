import Table from 'cli-table3';

const NO_BORDERS = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
    .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'])
    .map((part) => [part, part === 'middle' ? '  ' : '']),
);

/** One record a row. Borders are for people: a pipe gets columns only. */
export function renderTable(
  head: string[],
  rows: (string | number)[][],
  options: { borders: boolean },
): string {
  const table = new Table({
    head,
    style: {
      head: [],
      border: [],
      ...(options.borders ? { compact: true } : { 'padding-left': 0, 'padding-right': 0 }),
    },
    ...(options.borders ? {} : { chars: NO_BORDERS }),
    colAligns: head.map((_, column) =>
      rows.length > 0 && rows.every((row) => typeof row[column] === 'number') ? 'right' : 'left',
    ),
  });
  table.push(
    ...rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell))),
  );
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
