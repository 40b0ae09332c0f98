import { WINDOW_NAMES } from '../../engine/stats/windows.ts';
import { type ActionKey, offer } from './actions.ts';
import { defaultSort, type Jump, PANE_IDS, type ViewId } from './pane.ts';
import { paneOf } from './panes.ts';
import {
  change,
  close,
  type ExportFormat,
  firstShown,
  type Handler,
  type KeyContext,
  only,
  type Reduced,
  rowsOf,
  say,
  selectedRow,
  selectionIn,
  sourcesOf,
  type ViewState,
} from './viewState.ts';

/** Seconds between two refreshes, in the order of `+` and `-`. */
export const INTERVALS = [0.5, 1, 2, 5, 10, 30, 60] as const;
const MINUTE_MS = 60_000;
/** Longest scroll of help and details. */
const MAX_LINES = 200;

export const show =
  (pane: ViewId): Handler =>
  (state) =>
    shown({ ...close(state), pane });

/** A source that only this pane needs is asked at once. */
const shown = (state: ViewState): Reduced =>
  sourcesOf(state).length > 0 ? { state, effect: { kind: 'refresh' } } : only(state);

const ALL = ['overview', ...PANE_IDS] as const;
export const next =
  (by: number): Handler =>
  (state, context) => {
    const at = ALL.indexOf(state.pane);
    return show(ALL[(at + by + ALL.length) % ALL.length]!)(state, context);
  };

export const move =
  (to: (selection: number, page: number, count: number) => number): Handler =>
  (state, context) => {
    const { overlay } = state;
    if (overlay.kind === 'detail' || overlay.kind === 'help') {
      const offset = Math.max(0, to(overlay.offset, context.page, MAX_LINES));
      return only({ ...state, overlay: { ...overlay, offset } });
    }
    if (state.pane === 'overview') return only(state);
    const rows = rowsOf(state, context);
    const selection = selectionIn(state.pane, state.panes[state.pane], rows);
    return select(to(selection, context.page, rows.length))(state, context);
  };

/** Selects the row at an index of the pane. */
export const select =
  (wanted: number): Handler =>
  (state, context) => {
    if (state.pane === 'overview') return only(state);
    const rows = rowsOf(state, context);
    if (rows.length === 0) return only(state);
    const index = Math.max(0, Math.min(rows.length - 1, wanted));
    const offset = firstShown(state.panes[state.pane].offset, index, context.page, rows.length);
    return only(change(state, { index, offset, selected: paneOf(state.pane).key(rows[index]) }));
  };

export const interval =
  (by: number): Handler =>
  (state) => {
    const now = INTERVALS.findIndex((seconds) => seconds >= state.intervalSeconds);
    const at = Math.max(0, Math.min(INTERVALS.length - 1, (now < 0 ? INTERVALS.length - 1 : now) + by));
    const intervalSeconds = INTERVALS[at]!;
    return say({ ...state, intervalSeconds }, `every ${intervalSeconds} s`);
  };

export const sort: Handler = (state) => {
  if (state.pane === 'overview') return only(state);
  const pane = paneOf(state.pane);
  const { columns } = pane;
  const now = state.panes[state.pane].sort ?? defaultSort(pane);
  const column = (now + 1) % columns.length;
  return say(change(state, { sort: column, reversed: false }), `sorted by ${columns[column]!.title}`);
};

export const reverse: Handler = (state) =>
  only(state.pane === 'overview' ? state : change(state, { reversed: !state.panes[state.pane].reversed }));

export const nextWindow: Handler = (state) => {
  const at = WINDOW_NAMES.indexOf(state.window);
  return only({ ...state, window: WINDOW_NAMES[(at + 1) % WINDOW_NAMES.length]! });
};

export const detail: Handler = (state, context) => {
  if (rowsOf(state, context).length === 0) return only(state);
  if (state.pane !== 'overview' && paneOf(state.pane).entersJump) return jump(state, context);
  return only({ ...state, overlay: { kind: 'detail', offset: 0 } });
};

/** Goes to the pane and the row that the selected row is about. */
export const jump: Handler = (state, context) => {
  if (state.pane === 'overview') return say(state, 'choose a pane first');
  const row = selectedRow(state, context);
  const to: Jump | undefined =
    row === undefined ? undefined : paneOf(state.pane).leadsTo?.(row, context.snapshot);
  if (!to) return say(state, 'this row leads to no other pane');
  const top = { filter: '', selected: null, index: 0, offset: 0 };
  const there = change({ ...close(state), pane: to.pane }, top);
  const found = to.key === undefined ? -1 : rowIndex(there, context, to.key);
  const arrived = found >= 0 ? select(found)(there, context).state : there;
  const missing = to.key !== undefined && found < 0;
  const message = missing ? ({ text: `${to.key} is not in this list now`, tone: 'plain' } as const) : null;
  return shown({ ...arrived, message });
};

const rowIndex = (state: ViewState, context: KeyContext, key: string): number =>
  state.pane === 'overview'
    ? -1
    : rowsOf(state, context).findIndex((row) => paneOf(state.pane as 'queues').key(row) === key);

export const exportAs =
  (format: ExportFormat): Handler =>
  (state) =>
    state.pane === 'overview'
      ? say(state, 'choose a pane first')
      : { state, effect: { kind: 'export', format } };

/** Goes back or on by snapshots, or by minutes. */
export const travel =
  (by: { snapshots: number } | { minutes: number }): Handler =>
  (state, { times = [], replay }) => {
    if (times.length === 0) return say(state, 'no earlier view yet: one is kept every 5 s');
    const at = state.at ?? Number.POSITIVE_INFINITY;
    const target = targetOf(times, at, by);
    // Without a recording, the view after the last one is the present.
    if (target === undefined && !replay) return back(state);
    return only({ ...state, at: target ?? times.at(-1)! });
  };

function targetOf(
  times: readonly number[],
  at: number,
  by: { snapshots: number } | { minutes: number },
): number | undefined {
  const first = times[0]!;
  if ('snapshots' in by)
    return by.snapshots < 0
      ? (times.findLast((time) => time < at) ?? first)
      : times.find((time) => time > at);
  const from = Number.isFinite(at) ? at : times.at(-1)! + 1;
  const wanted = from + by.minutes * MINUTE_MS;
  return by.minutes < 0
    ? (times.findLast((time) => time <= wanted) ?? first)
    : times.find((time) => time >= wanted);
}

/** Shows the present again. */
export const back = (state: ViewState): Reduced => ({
  state: { ...state, at: null },
  effect: { kind: 'refresh' },
});

export const leave: Handler = (state, { replay }) => {
  const filtered = state.pane !== 'overview' && state.panes[state.pane].filter !== '';
  if (filtered) return only(change(state, { filter: '' }));
  return state.at !== null && !replay ? back(state) : only(state);
};

export const act =
  (key: ActionKey): Handler =>
  (state, context) => {
    if (context.replay) return say(state, 'a recording cannot be changed', 'bad');
    if (!context.admin) return say(state, 'read-only: start top with --admin', 'bad');
    if (state.at !== null) return say(state, 'this is an earlier view: escape shows the present', 'bad');
    if (state.busy) return say(state, `still busy: ${state.busy}`, 'bad');
    const row = selectedRow(state, context);
    return only(offered(state, offer(key, state.pane, row, context.snapshot, context.admin)));
  };

export function offered(state: ViewState, made: ReturnType<typeof offer>): ViewState {
  if (made.kind === 'refused') return { ...close(state), message: { text: made.why, tone: 'bad' } };
  if (made.kind === 'ask') return { ...state, overlay: made };
  return { ...state, overlay: { kind: 'confirm', question: made.question, typed: '' } };
}
