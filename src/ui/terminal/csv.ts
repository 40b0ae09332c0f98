import type { TableData } from './tableData.ts';

/** Returns a table as comma-separated values (RFC 4180), with CRLF at the end of each line. */
export function csvText(
  { head, values }: Pick<TableData, 'head' | 'values'>,
  { headers }: { headers: boolean },
): string {
  const lines = headers ? [head, ...values] : values;
  return lines.map((line) => `${line.map(field).join(',')}\r\n`).join('');
}

function field(value: string | number | null): string {
  const text = value === null ? '' : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
