import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { layOut } from './layout.ts';
import type { Screen } from './screen.ts';
import { layTabs } from './tabs.ts';
import type { ViewState } from './viewState.ts';

/** Reports of clicks and of the wheel, in the form with numbers (SGR), which has no limit of columns. */
export const MOUSE_ON = '\u001b[?1000h\u001b[?1006h';
export const MOUSE_OFF = '\u001b[?1006l\u001b[?1000l';

/** A report: button, column and row from 1, and `M` for a press or `m` for a release, which does nothing. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: reports begin with escape
const REPORT = /\u001b\[<(\d+);(\d+);(\d+)M/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: reports begin with escape
const BEGUN = /\u001b\[<[\d;]*$/;
const LEFT = 0;
const WHEEL_UP = 64;
const WHEEL_DOWN = 65;

/** A press of a button, or a step of the wheel, at a cell from 0. */
export interface MouseReport {
  readonly button: number;
  readonly x: number;
  readonly y: number;
}

/** Returns a function that finds the reports in what a terminal sends, piece by piece. */
export function mouseReports(): (piece: string) => MouseReport[] {
  let rest = '';
  return (piece) => {
    const text = rest + piece;
    rest = BEGUN.exec(text)?.[0] ?? '';
    return [...text.matchAll(REPORT)].map(([, button, x, y]) => ({
      button: Number(button),
      x: Number(x) - 1,
      y: Number(y) - 1,
    }));
  };
}

/** Calls `onReport` for each report that is read from the terminal, until the returned function is called. */
export function listenToMouse(stdin: NodeJS.ReadStream, onReport: (report: MouseReport) => void): () => void {
  // Ink reads the terminal with `read`, and drops reports of a mouse.
  const { read } = stdin;
  const find = mouseReports();
  stdin.read = (size?: number) => {
    const piece = read.call(stdin, size);
    if (piece !== null) for (const report of find(String(piece))) onReport(report);
    return piece;
  };
  return () => {
    stdin.read = read;
  };
}

/** Returns the key that a report stands for on this screen, or undefined for none. */
export function keyOfMouse(
  { button, x, y }: MouseReport,
  snapshot: TopSnapshot,
  state: ViewState,
  screen: Screen,
): string | undefined {
  if (button === WHEEL_UP) return 'wheel-up';
  if (button === WHEEL_DOWN) return 'wheel-down';
  if (button !== LEFT) return undefined;
  const { tabsAt, table } = layOut(snapshot, state, screen);
  if (y === tabsAt) {
    const tab = layTabs(snapshot, state.pane, screen.width).tabs.find(({ from, to }) => x >= from && x < to);
    return tab && `tab:${tab.id}`;
  }
  if (!table || y < table.at || y >= table.at + table.count) return undefined;
  return `row:${table.first + y - table.at}`;
}
