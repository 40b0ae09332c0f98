import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { layOut } from './layout.ts';
import type { Screen } from './screen.ts';
import { layTabs } from './tabs.ts';
import type { ViewState } from './viewState.ts';

/** Reports of clicks and of the wheel, in the form with numbers (SGR), which has no limit of columns. */
export const MOUSE_ON = '\u001b[?1000h\u001b[?1006h';
export const MOUSE_OFF = '\u001b[?1006l\u001b[?1000l';

/** A report without its escape: button, column and row from 1, and `M` for a press. */
const REPORT = /^\[<(\d+);(\d+);(\d+)([Mm])$/;
const LEFT = 0;
const WHEEL_UP = 64;
const WHEEL_DOWN = 65;

/** A press of a button of the mouse, or a step of its wheel: `mouse:BUTTON:X:Y`, from 0. */
export function mouseKey(input: string): string | undefined {
  const [, button, x, y, kind] = REPORT.exec(input) ?? [];
  if (kind === undefined) return undefined;
  // The release of a button does nothing.
  return kind === 'm' ? 'mouse:' : `mouse:${button}:${Number(x) - 1}:${Number(y) - 1}`;
}

/** Returns the key that a report of the mouse stands for on this screen, or undefined for none. */
export function keyOfMouse(
  key: string,
  snapshot: TopSnapshot,
  state: ViewState,
  screen: Screen,
): string | undefined {
  const [button, x, y] = key.split(':').slice(1).map(Number);
  if (button === WHEEL_UP) return 'wheel-up';
  if (button === WHEEL_DOWN) return 'wheel-down';
  if (button !== LEFT || x === undefined || y === undefined) return undefined;
  const { tabsAt, table } = layOut(snapshot, state, screen);
  if (y === tabsAt) {
    const tab = layTabs(snapshot, state.pane, screen.width).tabs.find(({ from, to }) => x >= from && x < to);
    return tab && `tab:${tab.id}`;
  }
  if (!table || y < table.at || y >= table.at + table.count) return undefined;
  return `row:${table.first + y - table.at}`;
}
