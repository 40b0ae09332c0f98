import type { TopAction } from '../../engine/monitoring/top/actions.ts';
import type { PaneSource } from '../../engine/monitoring/top/paneSources.ts';
import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { WindowName } from '../../engine/stats/windows.ts';
import type { Admin, NumberPrompt, Question } from './actions.ts';
import { PANE_IDS, type PaneId, type ViewId } from './pane.ts';
import { paneOf } from './panes.ts';
import { type Choice, type OrderMemory, orderedRows } from './sorting.ts';

export interface PaneState extends Choice {
  /** Key of the selected row, which the selection follows; null: the first row. */
  readonly selected: string | null;
  /** Index of the selected row, which stays selected if the row disappears. */
  readonly index: number;
  /** Index of the first row on the screen. */
  readonly offset: number;
  /** Titles of columns that the viewer has hidden. */
  readonly hidden: readonly string[];
}

/** The overlay of the pane, which takes the keys. */
export type Overlay =
  | { readonly kind: 'none' }
  | { readonly kind: 'help'; readonly offset: number }
  | { readonly kind: 'detail'; readonly offset: number }
  | { readonly kind: 'filter' }
  | { readonly kind: 'palette'; readonly typed: string; readonly index: number }
  | { readonly kind: 'columns'; readonly index: number }
  | { readonly kind: 'ask'; readonly what: NumberPrompt; readonly typed: string }
  | { readonly kind: 'confirm'; readonly question: Question; readonly typed: string };

export interface Message {
  readonly text: string;
  readonly tone: 'ok' | 'bad' | 'plain';
}

export interface ViewState {
  readonly pane: ViewId;
  readonly panes: { readonly [id in PaneId]: PaneState };
  readonly overlay: Overlay;
  readonly window: WindowName;
  readonly tumbling: boolean;
  readonly paused: boolean;
  readonly intervalSeconds: number;
  /** Time of the snapshot that is shown, in unix milliseconds; null: now. */
  readonly at: number | null;
  /** Result of the last key or action. The next key removes it. */
  readonly message: Message | null;
  /** The running action. */
  readonly busy: string | null;
}

const INITIAL_PANE: PaneState = {
  sort: null,
  reversed: false,
  filter: '',
  selected: null,
  index: 0,
  offset: 0,
  hidden: [],
};

export const initialState = (intervalSeconds: number, pane: ViewId = 'overview'): ViewState => ({
  pane,
  panes: Object.fromEntries(PANE_IDS.map((id) => [id, INITIAL_PANE])) as ViewState['panes'],
  overlay: { kind: 'none' },
  window: '1m',
  tumbling: false,
  paused: false,
  intervalSeconds,
  at: null,
  message: null,
  busy: null,
});

export type ExportFormat = 'csv' | 'json';

/** Work that a key leaves to the view. */
export type Effect =
  | { readonly kind: 'quit' }
  | { readonly kind: 'refresh' }
  | { readonly kind: 'export'; readonly format: ExportFormat }
  | { readonly kind: 'act'; readonly action: TopAction };

export interface KeyContext {
  readonly snapshot: TopSnapshot;
  /** Rows of a pane that fit on the screen. */
  readonly page: number;
  readonly admin: Admin | undefined;
  readonly memory: OrderMemory;
  /** Times of the snapshots that can be shown again, in unix milliseconds, the oldest first. */
  readonly times?: readonly number[];
  /** The snapshots are those of a recording: there is no now. */
  readonly replay?: boolean;
}

export interface Reduced {
  readonly state: ViewState;
  readonly effect?: Effect;
}

export type Handler = (state: ViewState, context: KeyContext) => Reduced;

export const only = (state: ViewState): Reduced => ({ state });
export const say = (state: ViewState, text: string, tone: Message['tone'] = 'plain'): Reduced =>
  only({ ...state, message: { text, tone } });
export const close = (state: ViewState): ViewState => ({ ...state, overlay: { kind: 'none' } });

/** Changes the state of the shown pane. */
export const change = (state: ViewState, by: Partial<PaneState>): ViewState =>
  state.pane === 'overview'
    ? state
    : { ...state, panes: { ...state.panes, [state.pane]: { ...state.panes[state.pane], ...by } } };

export const rowsOf = (
  state: ViewState,
  { snapshot, memory }: Pick<KeyContext, 'snapshot' | 'memory'>,
): readonly unknown[] =>
  state.pane === 'overview'
    ? []
    : (orderedRows(paneOf(state.pane), snapshot, state.panes[state.pane], state.window, memory) ?? []);

/** Index of the selected row among these rows: its row if it is still there, else its old index. */
export function selectionIn(id: PaneId, { selected, index }: PaneState, rows: readonly unknown[]): number {
  if (selected === null) return 0;
  const { key } = paneOf(id);
  // The common case: the row has not moved.
  if (rows[index] !== undefined && key(rows[index]) === selected) return index;
  const found = rows.findIndex((row) => key(row) === selected);
  return found >= 0 ? found : Math.max(0, Math.min(index, rows.length - 1));
}

/** The selected row of the shown pane. */
export const selectedRow = (state: ViewState, context: KeyContext): unknown => {
  if (state.pane === 'overview') return undefined;
  const rows = rowsOf(state, context);
  return rows[selectionIn(state.pane, state.panes[state.pane], rows)];
};

/** Index of the first row on the screen, so that the selected row is on it. */
export const firstShown = (offset: number, selection: number, page: number, count: number): number => {
  const visible = Math.max(Math.min(offset, selection), selection - page + 1);
  return Math.max(0, Math.min(visible, Math.max(0, count - page)));
};

/** Sources that only the shown pane needs. */
export const sourcesOf = ({ pane }: Pick<ViewState, 'pane'>): readonly PaneSource[] => {
  const asks = pane === 'overview' ? undefined : paneOf(pane).asks;
  return asks ? [asks] : [];
};
