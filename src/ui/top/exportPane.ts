import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { csvText } from '../terminal/csv.ts';
import { paneOf } from './panes.ts';
import { orderedRows } from './sorting.ts';
import type { ExportFormat, ViewState } from './viewState.ts';

/** A spreadsheet takes a cell that begins with one of these for a formula. */
const FORMULA = /^[=+@\t\r-](?![\d.,]*$)/;

export interface Exported {
  readonly name: string;
  readonly text: string;
  readonly rows: number;
}

/** The rows of the shown pane as a file: filtered and sorted as they are shown. */
export function exportPane(
  snapshot: TopSnapshot,
  state: ViewState,
  format: ExportFormat,
): Exported | undefined {
  if (state.pane === 'overview') return undefined;
  const pane = paneOf(state.pane);
  const choice = state.panes[state.pane];
  const rows = orderedRows(pane, snapshot, choice, state.window, new Map()) ?? [];
  const columns = pane.columns.filter(({ title }) => !choice.hidden.includes(title));
  const csv = csvText(
    {
      head: columns.map(({ title }) => title),
      values: rows.map((row) => columns.map((column) => asText(column.text(row, state.window)))),
    },
    { headers: true },
  );
  return {
    name: `feedctl-${fileName(snapshot.context)}-${state.pane}-${stamp(snapshot.takenAt)}.${format}`,
    text: format === 'csv' ? csv : `${JSON.stringify(rows, undefined, 2)}\n`,
    rows: rows.length,
  };
}

const asText = (text: string): string => (FORMULA.test(text) ? `'${text}` : text);

/** A context may be called by its URL. */
const fileName = (context: string): string => context.replace(/[^\w.-]+/g, '_').slice(0, 40);
const stamp = (iso: string): string => iso.slice(0, 19).replace(/[-:]/g, '');
