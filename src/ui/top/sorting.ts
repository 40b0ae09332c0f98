import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { WindowName } from '../../engine/stats/windows.ts';
import { type AnyPane, defaultSort } from './pane.ts';

export interface Choice {
  /** Index of a column; null: the pane's default. */
  readonly sort: number | null;
  readonly reversed: boolean;
  readonly filter: string;
}

interface Ordered {
  readonly rows: readonly unknown[] | null;
  readonly choice: Choice;
  readonly window: WindowName;
  readonly ordered: readonly unknown[] | null;
}

/** The last order of each pane: keys move the selection over 10,000 rows without sorting them again. */
export type OrderMemory = Map<string, Ordered & { snapshot: TopSnapshot }>;

/** The matching rows of a pane in the chosen order, null if its source has not answered yet. */
export function orderedRows(
  pane: AnyPane,
  snapshot: TopSnapshot,
  choice: Choice,
  window: WindowName,
  memory: OrderMemory,
): readonly unknown[] | null {
  const known = memory.get(pane.id);
  if (
    known?.snapshot === snapshot &&
    known.window === window &&
    known.choice.sort === choice.sort &&
    known.choice.reversed === choice.reversed &&
    known.choice.filter === choice.filter
  )
    return known.ordered;
  const rows = pane.rows(snapshot);
  const ordered = rows && sorted(pane, matching(pane, rows, choice.filter, window), choice, window);
  memory.set(pane.id, { snapshot, rows, choice, window, ordered });
  return ordered;
}

function matching(
  pane: AnyPane,
  rows: readonly unknown[],
  filter: string,
  window: WindowName,
): readonly unknown[] {
  if (filter === '') return rows;
  const wanted = filter.toLowerCase();
  return rows.filter((row) =>
    pane.columns.some((column) => column.text(row, window).toLowerCase().includes(wanted)),
  );
}

/** Sorts numbers from the greatest, and texts from A. Rows without a value are last in both directions. */
function sorted(
  pane: AnyPane,
  rows: readonly unknown[],
  { sort, reversed }: Choice,
  window: WindowName,
): readonly unknown[] {
  const column = pane.columns[sort ?? defaultSort(pane)];
  if (!column) return reversed ? [...rows].reverse() : rows;
  const valued = rows.map((row) => ({
    row,
    value: (column.value ?? column.text)(row, window) as string | number | null,
  }));
  const sign = reversed ? -1 : 1;
  valued.sort((a, b) => {
    if (a.value === b.value) return 0;
    if (a.value === null) return 1;
    if (b.value === null) return -1;
    if (typeof a.value === 'number' && typeof b.value === 'number') return sign * (b.value - a.value);
    return sign * (String(a.value) < String(b.value) ? -1 : 1);
  });
  return valued.map(({ row }) => row);
}
