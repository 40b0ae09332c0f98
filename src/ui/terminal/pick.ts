import { FeedctlError } from '../../engine/model/errors.ts';
import type { TableData } from './tableData.ts';

/** `in flight`, `in-flight` and `In_Flight` are the same column. */
const keyOf = (title: string): string =>
  title
    .trim()
    .toLowerCase()
    .replaceAll(/[-_ ]+/g, ' ');

/** Returns a table with these columns only, in this order. Throws USAGE for an unknown one. */
export function pickColumns(table: TableData, titles: readonly string[]): TableData {
  const keys = table.head.map(keyOf);
  const places = titles.map((title) => {
    const place = keys.indexOf(keyOf(title));
    if (place !== -1) return place;
    const known = table.head.filter((one) => one !== '').join(', ');
    throw new FeedctlError('USAGE', `there is no column ${JSON.stringify(title.trim())}`, {
      suggestions: [`Pass --columns with names of these, with commas between them: ${known}.`],
    });
  });
  const of = <T>(row: readonly T[]): T[] => places.map((place) => row[place]!);
  return {
    head: of(table.head),
    cells: table.cells.map(of),
    values: table.values.map(of),
    rightAligned: of(table.rightAligned),
    tones: table.tones.map(of),
  };
}

/** Returns the texts of the first column that has a title: the ids or names of the rows. */
export function namesOf({ head, values }: TableData): string[] {
  const place = head.findIndex((title) => title !== '');
  return values.map((row) => String(row[place] ?? ''));
}
