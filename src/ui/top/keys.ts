import { ACTION_KEYS, type ActionKey } from './actions.ts';
import {
  act,
  detail,
  exportAs,
  interval,
  jump,
  leave,
  move,
  next,
  nextWindow,
  reverse,
  show,
  sort,
  travel,
} from './keyHandlers.ts';
import { PANES } from './panes.ts';
import { type Handler, only, say } from './viewState.ts';

export interface Key {
  readonly keys: readonly string[];
  readonly help: string;
  /** Text in the last row of the screen, which shows as many keys as fit. */
  readonly hint?: string;
  readonly admin?: true;
  /** The palette does not offer it: it moves within a view, or opens the palette. */
  readonly onlyKey?: true;
  readonly run: Handler;
}

const openPalette: Handler = (state) => only({ ...state, overlay: { kind: 'palette', typed: '', index: 0 } });

/** All keys. The help and the palette are made from this list. */
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
  {
    keys: [':'],
    help: 'type the name of a pane or an action',
    hint: ': commands',
    onlyKey: true,
    run: openPalette,
  },
  { keys: ['tab', 'right'], help: 'next pane', hint: 'tab pane', onlyKey: true, run: next(1) },
  { keys: ['shift-tab', 'left'], help: 'previous pane', onlyKey: true, run: next(-1) },
  { keys: ['0'], help: 'overview', run: show('overview') },
  ...PANES.map(
    ({ id, title, hotkey }): Key => ({ keys: [hotkey], help: title.toLowerCase(), run: show(id) }),
  ),
  { keys: ['up', 'k'], help: 'row above', onlyKey: true, run: move((selection) => selection - 1) },
  { keys: ['down', 'j'], help: 'row below', onlyKey: true, run: move((selection) => selection + 1) },
  {
    keys: ['pageup', 'ctrl-b'],
    help: 'page above',
    onlyKey: true,
    run: move((selection, page) => selection - page),
  },
  {
    keys: ['pagedown', 'ctrl-f'],
    help: 'page below',
    onlyKey: true,
    run: move((selection, page) => selection + page),
  },
  { keys: ['home', 'g'], help: 'first row', onlyKey: true, run: move(() => 0) },
  { keys: ['end', 'G'], help: 'last row', onlyKey: true, run: move((_, _page, count) => count - 1) },
  { keys: ['return'], help: 'details of the selected row', hint: 'enter detail', onlyKey: true, run: detail },
  { keys: ['o'], help: 'open what the selected row is about', hint: 'o open', run: jump },
  { keys: ['escape'], help: 'close, remove the filter, or show the present', onlyKey: true, run: leave },
  {
    keys: ['/'],
    help: 'filter the rows by a text',
    hint: '/ filter',
    run: (state) =>
      state.pane === 'overview'
        ? say(state, 'choose a pane first')
        : only({ ...state, overlay: { kind: 'filter' } }),
  },
  { keys: ['s'], help: 'sort by the next column', hint: 's sort', run: sort },
  { keys: ['r'], help: 'reverse the order', run: reverse },
  {
    keys: ['c'],
    help: 'choose columns',
    run: (state) =>
      state.pane === 'overview'
        ? say(state, 'choose a pane first')
        : only({ ...state, overlay: { kind: 'columns', index: 0 } }),
  },
  { keys: ['x'], help: 'export the rows as CSV', run: exportAs('csv') },
  { keys: ['X'], help: 'export the rows as JSON', run: exportAs('json') },
  { keys: ['['], help: 'earlier view', hint: '[ ] time', run: travel({ snapshots: -1 }) },
  { keys: [']'], help: 'later view', run: travel({ snapshots: 1 }) },
  { keys: ['{'], help: 'a minute earlier', run: travel({ minutes: -1 }) },
  { keys: ['}'], help: 'a minute later', run: travel({ minutes: 1 }) },
  {
    keys: ['space'],
    help: 'pause or continue',
    hint: 'space pause',
    run: (state) => ({ state: { ...state, paused: !state.paused }, effect: { kind: 'refresh' } }),
  },
  { keys: ['+', '='], help: 'refresh less often', hint: '+/- interval', run: interval(1) },
  { keys: ['-'], help: 'refresh more often', run: interval(-1) },
  { keys: ['w'], help: 'window of rates and time of charts', hint: 'w window', run: nextWindow },
  {
    keys: ['t'],
    help: 'sliding windows up to now, or the last whole window by the clock (tumbling)',
    run: (state) => only({ ...state, tumbling: !state.tumbling }),
  },
  ...(Object.keys(ACTION_KEYS) as ActionKey[]).map(
    (key): Key => ({ keys: [key], help: ACTION_KEYS[key], admin: true, run: act(key) }),
  ),
];
