import type { TopAction } from '../../engine/monitoring/top/actions.ts';
import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { WINDOW_NAMES, type WindowName } from '../../engine/stats/windows.ts';
import {
  ACTION_KEYS,
  type ActionKey,
  type Admin,
  type NumberPrompt,
  offer,
  type Question,
  questionFor,
} from './actions.ts';
import { defaultSort, PANE_IDS, PANES, type PaneId, paneOf } from './panes.ts';
import { type Choice, type OrderMemory, orderedRows } from './sorting.ts';

/** Seconds between two refreshes, in the order of `+` and `-`. */
export const INTERVALS = [0.5, 1, 2, 5, 10, 30, 60] as const;

interface PaneState extends Choice {
  /** Key of the selected row, which the selection follows; null: the first row. */
  readonly selected: string | null;
  /** Index of the selected row, which stays selected if the row disappears. */
  readonly index: number;
  /** Index of the first row on the screen. */
  readonly offset: number;
}

/** The overlay of the pane, which takes the keys. */
export type Overlay =
  | { readonly kind: 'none' }
  | { readonly kind: 'help'; readonly offset: number }
  | { readonly kind: 'detail'; readonly offset: number }
  | { readonly kind: 'filter' }
  | { readonly kind: 'ask'; readonly what: NumberPrompt; readonly typed: string }
  | { readonly kind: 'confirm'; readonly question: Question; readonly typed: string };

export interface Message {
  readonly text: string;
  readonly tone: 'ok' | 'bad' | 'plain';
}

export interface ViewState {
  readonly pane: PaneId | 'overview';
  readonly panes: { readonly [id in PaneId]: PaneState };
  readonly overlay: Overlay;
  readonly window: WindowName;
  readonly tumbling: boolean;
  readonly paused: boolean;
  readonly intervalSeconds: number;
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
};

export const initialState = (intervalSeconds: number): ViewState => ({
  pane: 'overview',
  panes: Object.fromEntries(PANE_IDS.map((id) => [id, INITIAL_PANE])) as ViewState['panes'],
  overlay: { kind: 'none' },
  window: '1m',
  tumbling: false,
  paused: false,
  intervalSeconds,
  message: null,
  busy: null,
});

/** Work that a key leaves to the view. */
export type Effect =
  | { readonly kind: 'quit' }
  | { readonly kind: 'refresh' }
  | { readonly kind: 'act'; readonly action: TopAction };

export interface KeyContext {
  readonly snapshot: TopSnapshot;
  /** Rows of a pane that fit on the screen. */
  readonly page: number;
  readonly admin: Admin | undefined;
  readonly memory: OrderMemory;
}

export interface Reduced {
  readonly state: ViewState;
  readonly effect?: Effect;
}

type Handler = (state: ViewState, context: KeyContext) => Reduced;

const only = (state: ViewState): Reduced => ({ state });
const show =
  (pane: PaneId | 'overview'): Handler =>
  (state) =>
    only({ ...state, pane });
const ALL = ['overview', ...PANE_IDS] as const;
const next =
  (by: number): Handler =>
  (state) => {
    const at = ALL.indexOf(state.pane);
    return only({ ...state, pane: ALL[(at + by + ALL.length) % ALL.length]! });
  };

const change = (state: ViewState, by: Partial<PaneState>): ViewState =>
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

/** Index of the first row on the screen, so that the selected row is on it. */
export const firstShown = (offset: number, selection: number, page: number, count: number): number => {
  const visible = Math.max(Math.min(offset, selection), selection - page + 1);
  return Math.max(0, Math.min(visible, Math.max(0, count - page)));
};

const move =
  (to: (selection: number, page: number, count: number) => number): Handler =>
  (state, context) => {
    const { overlay } = state;
    if (overlay.kind === 'detail' || overlay.kind === 'help') {
      const offset = Math.max(0, to(overlay.offset, context.page, 200));
      return only({ ...state, overlay: { ...overlay, offset } });
    }
    if (state.pane === 'overview') return only(state);
    const rows = rowsOf(state, context);
    if (rows.length === 0) return only(state);
    const own = state.panes[state.pane];
    const selection = selectionIn(state.pane, own, rows);
    const index = Math.max(0, Math.min(rows.length - 1, to(selection, context.page, rows.length)));
    const offset = firstShown(own.offset, index, context.page, rows.length);
    return only(change(state, { index, offset, selected: paneOf(state.pane).key(rows[index]) }));
  };

const interval =
  (by: number): Handler =>
  (state) => {
    const now = INTERVALS.findIndex((seconds) => seconds >= state.intervalSeconds);
    const at = Math.max(0, Math.min(INTERVALS.length - 1, (now < 0 ? INTERVALS.length - 1 : now) + by));
    const intervalSeconds = INTERVALS[at]!;
    return only({
      ...state,
      intervalSeconds,
      message: { text: `every ${intervalSeconds} s`, tone: 'plain' },
    });
  };

const sort: Handler = (state) => {
  if (state.pane === 'overview') return only(state);
  const pane = paneOf(state.pane);
  const { columns } = pane;
  const now = state.panes[state.pane].sort ?? defaultSort(pane);
  const column = (now + 1) % columns.length;
  const text = `sorted by ${columns[column]!.title}`;
  return only({
    ...change(state, { sort: column, reversed: false }),
    message: { text, tone: 'plain' },
  });
};

const close = (state: ViewState): ViewState => ({ ...state, overlay: { kind: 'none' } });

const act =
  (key: ActionKey): Handler =>
  (state, context) => {
    if (!context.admin)
      return only({ ...state, message: { text: 'read-only: start top with --admin', tone: 'bad' } });
    if (state.busy) return only({ ...state, message: { text: `still busy: ${state.busy}`, tone: 'bad' } });
    const rows = rowsOf(state, context);
    const row =
      state.pane === 'overview' ? undefined : rows[selectionIn(state.pane, state.panes[state.pane], rows)];
    return only(offered(state, offer(key, state.pane, row, context.snapshot, context.admin)));
  };

function offered(state: ViewState, made: ReturnType<typeof offer>): ViewState {
  if (made.kind === 'refused') return { ...close(state), message: { text: made.why, tone: 'bad' } };
  if (made.kind === 'ask') return { ...state, overlay: made };
  return { ...state, overlay: { kind: 'confirm', question: made.question, typed: '' } };
}

interface Key {
  readonly keys: readonly string[];
  readonly help: string;
  /** Text in the last row of the screen, which shows as many keys as fit. */
  readonly hint?: string;
  readonly admin?: true;
  readonly run: Handler;
}

/** All keys. The help is made from this list. */
export const KEYS: readonly Key[] = [
  {
    keys: ['?', 'h'],
    help: 'this help',
    hint: '? help',
    run: (state) => only({ ...state, overlay: { kind: 'help', offset: 0 } }),
  },
  {
    keys: ['q', 'ctrl-c'],
    help: 'quit',
    hint: 'q quit',
    run: (state) => ({ state, effect: { kind: 'quit' } }),
  },
  { keys: ['tab', 'right'], help: 'next pane', hint: 'tab pane', run: next(1) },
  { keys: ['shift-tab', 'left'], help: 'previous pane', run: next(-1) },
  { keys: ['0'], help: 'overview', run: show('overview') },
  ...PANES.map(
    ({ id, title }, i): Key => ({ keys: [String(i + 1)], help: title.toLowerCase(), run: show(id) }),
  ),
  { keys: ['up', 'k'], help: 'row above', run: move((selection) => selection - 1) },
  { keys: ['down', 'j'], help: 'row below', run: move((selection) => selection + 1) },
  { keys: ['pageup', 'ctrl-b'], help: 'page above', run: move((selection, page) => selection - page) },
  { keys: ['pagedown', 'ctrl-f'], help: 'page below', run: move((selection, page) => selection + page) },
  { keys: ['home', 'g'], help: 'first row', run: move(() => 0) },
  { keys: ['end', 'G'], help: 'last row', run: move((_, _page, count) => count - 1) },
  {
    keys: ['return'],
    help: 'details of the selected row',
    hint: 'enter detail',
    run: (state, context) =>
      rowsOf(state, context).length > 0
        ? only({ ...state, overlay: { kind: 'detail', offset: 0 } })
        : only(state),
  },
  {
    keys: ['escape'],
    help: 'close, or remove the filter',
    run: (state) => only(change(state, { filter: '' })),
  },
  {
    keys: ['/'],
    help: 'filter the rows by a text',
    hint: '/ filter',
    run: (state) =>
      state.pane === 'overview'
        ? only({ ...state, message: { text: 'choose a pane first', tone: 'plain' } })
        : only({ ...state, overlay: { kind: 'filter' } }),
  },
  { keys: ['s'], help: 'sort by the next column', hint: 's sort', run: sort },
  {
    keys: ['r'],
    help: 'reverse the order',
    run: (state) =>
      state.pane === 'overview'
        ? only(state)
        : only(change(state, { reversed: !state.panes[state.pane].reversed })),
  },
  {
    keys: ['space'],
    help: 'pause or continue',
    hint: 'space pause',
    run: (state) => ({ state: { ...state, paused: !state.paused }, effect: { kind: 'refresh' } }),
  },
  { keys: ['+', '='], help: 'refresh less often', hint: '+/- interval', run: interval(1) },
  { keys: ['-'], help: 'refresh more often', run: interval(-1) },
  {
    keys: ['w'],
    help: 'rates over the next window: 1 s, 1 m, 5 m, 1 h',
    hint: 'w window',
    run: (state) => {
      const at = WINDOW_NAMES.indexOf(state.window);
      return only({ ...state, window: WINDOW_NAMES[(at + 1) % WINDOW_NAMES.length]! });
    },
  },
  {
    keys: ['t'],
    help: 'sliding windows up to now, or the last whole window by the clock (tumbling)',
    run: (state) => only({ ...state, tumbling: !state.tumbling }),
  },
  ...(Object.keys(ACTION_KEYS) as ActionKey[]).map(
    (key): Key => ({ keys: [key], help: ACTION_KEYS[key], admin: true, run: act(key) }),
  ),
];

const BY_KEY = new Map(KEYS.flatMap((row) => row.keys.map((key) => [key, row] as const)));

const isText = (key: string): boolean => key === 'space' || [...key].length === 1;
const textOf = (key: string): string => (key === 'space' ? ' ' : key);
const MAX_TYPED = 100;

/** The typed text after one more key. */
const type = (typed: string, key: string): string =>
  key === 'backspace'
    ? [...typed].slice(0, -1).join('')
    : key === 'ctrl-u'
      ? ''
      : isText(key) && typed.length < MAX_TYPED
        ? typed + textOf(key)
        : typed;

/** Returns the state after a key: `up`, `return`, `ctrl-c`, `space`, or a character. */
export function reduce(before: ViewState, key: string, context: KeyContext): Reduced {
  const state = { ...before, message: null };
  const { overlay } = state;
  if (key === 'ctrl-c') return { state, effect: { kind: 'quit' } };
  switch (overlay.kind) {
    case 'filter': {
      if (state.pane === 'overview' || key === 'return') return only(close(state));
      if (key === 'escape') return only(close(change(state, { filter: '' })));
      const filter = type(state.panes[state.pane].filter, key);
      return only(change(state, { filter, offset: 0, index: 0, selected: null }));
    }
    case 'ask':
      if (key === 'escape') return only(close(state));
      if (key === 'return')
        return only(offered(state, questionFor(overlay.what, overlay.typed, context.snapshot)));
      return only({ ...state, overlay: { ...overlay, typed: type(overlay.typed, key) } });
    case 'confirm':
      return confirm(state, overlay, key, context.admin);
    case 'help':
    case 'detail': {
      if (key === 'q' || key === 'escape' || key === 'return' || key === '?') return only(close(state));
      const row = BY_KEY.get(key);
      const moves = ['up', 'k', 'down', 'j', 'pageup', 'pagedown', 'home', 'g', 'space', '+', '-', 'w', 't'];
      return row && moves.includes(key) ? row.run(state, context) : only(state);
    }
    case 'none': {
      const row = BY_KEY.get(key);
      return row ? row.run(state, context) : only(state);
    }
  }
}

/** Confirms with the typed name of a production cluster, else with one key. Any other key declines. */
function confirm(
  state: ViewState,
  overlay: Overlay & { kind: 'confirm' },
  key: string,
  admin: Admin | undefined,
): Reduced {
  const { question, typed } = overlay;
  const accepted: Reduced = {
    state: { ...close(state), busy: question.text.replace(/\?.*/, '') },
    effect: { kind: 'act', action: question.action },
  };
  const declined = only({
    ...close(state),
    message: { text: 'not confirmed: nothing was changed', tone: 'plain' },
  });
  const name = admin?.production;
  if (name === undefined) return key === 'y' || key === 'Y' ? accepted : declined;
  if (key === 'escape') return declined;
  if (key === 'return') return typed === name ? accepted : declined;
  return only({ ...state, overlay: { ...overlay, typed: type(typed, key) } });
}
