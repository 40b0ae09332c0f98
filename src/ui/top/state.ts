import { type Admin, questionFor } from './actions.ts';
import { toggleColumn } from './columnChoice.ts';
import { offered, select, show } from './keyHandlers.ts';
import { KEYS } from './keys.ts';
import { completion, paletteMatches } from './palette.ts';
import type { ViewId } from './pane.ts';
import { paneOf } from './panes.ts';
import {
  change,
  close,
  type KeyContext,
  type Overlay,
  only,
  type Reduced,
  rowsOf,
  selectionIn,
  type ViewState,
} from './viewState.ts';

const BY_KEY = new Map(KEYS.flatMap((row) => row.keys.map((key) => [key, row] as const)));
/** Keys that an open help or detail passes on. */
const PASSED_ON = ['up', 'k', 'down', 'j', 'pageup', 'pagedown', 'home', 'g', 'space', '+', '-', 'w', 't'];
/** Rows that one step of a mouse wheel moves. */
const WHEEL_ROWS = 3;

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

/**
 * Returns the state after a key: `up`, `return`, `ctrl-c`, `space`, or a character. A mouse gives `wheel-up`,
 * `wheel-down`, `tab:ID` and `row:INDEX`.
 */
export function reduce(before: ViewState, key: string, context: KeyContext): Reduced {
  const state = { ...before, message: null };
  const { overlay } = state;
  if (key === 'ctrl-c') return { state, effect: { kind: 'quit' } };
  if (isOfMouse(key)) return withMouse(state, key, context);
  switch (overlay.kind) {
    case 'filter': {
      if (state.pane === 'overview' || key === 'return') return only(close(state));
      if (key === 'escape') return only(close(change(state, { filter: '' })));
      const filter = type(state.panes[state.pane].filter, key);
      return only(change(state, { filter, offset: 0, index: 0, selected: null }));
    }
    case 'palette':
      return inPalette(state, overlay, key, context);
    case 'columns':
      return inColumns(state, overlay, key, context);
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
      return row && PASSED_ON.includes(key) ? row.run(state, context) : only(state);
    }
    case 'none': {
      const row = BY_KEY.get(key);
      return row ? row.run(state, context) : only(state);
    }
  }
}

const isOfMouse = (key: string): boolean => /^(wheel-|tab:|row:)/.test(key);

/** A click chooses a tab or a row; one on the selected row shows its details. */
function withMouse(state: ViewState, key: string, context: KeyContext): Reduced {
  const { overlay } = state;
  if (key.startsWith('wheel-')) {
    const step = BY_KEY.get(key === 'wheel-up' ? 'up' : 'down')!;
    if (!['none', 'help', 'detail'].includes(overlay.kind)) return only(state);
    let moved = state;
    for (let i = 0; i < WHEEL_ROWS; i += 1) moved = step.run(moved, context).state;
    return only(moved);
  }
  // A question is answered by keys alone.
  if (overlay.kind === 'confirm' || overlay.kind === 'ask') return only(state);
  const [kind, value] = key.split(':') as [string, string];
  if (kind === 'tab') return show(value as ViewId)(close(state), context);
  if (overlay.kind !== 'none' || state.pane === 'overview') return only(state);
  const index = Number(value);
  const isSelected = selectionIn(state.pane, state.panes[state.pane], rowsOf(state, context)) === index;
  return isSelected ? BY_KEY.get('return')!.run(state, context) : select(index)(state, context);
}

function inPalette(
  state: ViewState,
  overlay: Overlay & { kind: 'palette' },
  key: string,
  context: KeyContext,
): Reduced {
  const { typed, index } = overlay;
  const admin = context.admin !== undefined;
  const matches = paletteMatches(typed, admin);
  const at = Math.min(index, Math.max(0, matches.length - 1));
  const open = (by: { typed?: string; index?: number }) =>
    only({ ...state, overlay: { kind: 'palette', typed, index: at, ...by } });
  switch (key) {
    case 'escape':
      return only(close(state));
    case 'return': {
      const chosen = matches[at];
      return chosen ? chosen.run(close(state), context) : only(state);
    }
    case 'up':
      return open({ index: Math.max(0, at - 1) });
    case 'down':
      return open({ index: Math.min(matches.length - 1, at + 1) });
    case 'tab':
      return open({ typed: completion(typed, admin), index: 0 });
    default:
      return open({ typed: type(typed, key), index: 0 });
  }
}

function inColumns(
  state: ViewState,
  overlay: Overlay & { kind: 'columns' },
  key: string,
  context: KeyContext,
): Reduced {
  if (state.pane === 'overview') return only(close(state));
  const last = paneOf(state.pane).columns.length - 1;
  const to = (index: number) =>
    only({ ...state, overlay: { ...overlay, index: Math.max(0, Math.min(last, index)) } });
  switch (key) {
    case 'up':
    case 'k':
      return to(overlay.index - 1);
    case 'down':
    case 'j':
      return to(overlay.index + 1);
    case 'space':
      return toggleColumn(overlay.index)(state, context);
    case 'escape':
    case 'return':
    case 'q':
    case 'c':
      return only(close(state));
    default:
      return only(state);
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
