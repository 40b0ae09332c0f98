import type { TableData } from './table.ts';

/** Returns a table as comma-separated values (RFC 4180), with CRLF at the end of each line. */
export function csvText({ head, values }: TableData, { headers }: { headers: boolean }): string {
  const lines = headers ? [head, ...values] : values;
  return lines.map((line) => `${line.map(field).join(',')}\r\n`).join('');
}

function field(value: string | number | null): string {
  const text = value === null ? '' : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
