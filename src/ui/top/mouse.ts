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
const REPORT = /\u001b\[<(\d+);(\d+);(\d+)([Mm])/g;
/** The beginning of a report or of another key, which the next piece may complete. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: reports begin with escape
const BEGUN = /\u001b(?:\[(?:<[\d;]*)?)?$/;
/** A slow connection may cut a report in two. After this time what has begun is the key Escape. */
const REST_MS = 50;
const LEFT = 0;
const WHEEL_UP = 64;
const WHEEL_DOWN = 65;

/** A press of a button, or a step of the wheel, at a cell from 0. */
export interface MouseReport {
  readonly button: number;
  readonly x: number;
  readonly y: number;
}

/** What a terminal has sent: reports, keys, and the beginning of something. */
interface Input {
  readonly reports: MouseReport[];
  readonly keys: string;
  readonly begun: string;
}

/** Separates reports from keys. */
export function separate(text: string): Input {
  const reports = [...text.matchAll(REPORT)].flatMap(([, button, x, y, what]) =>
    what === 'M' ? [{ button: Number(button), x: Number(x) - 1, y: Number(y) - 1 }] : [],
  );
  const others = text.replace(REPORT, '');
  const begun = BEGUN.exec(others)?.[0] ?? '';
  return { reports, keys: others.slice(0, others.length - begun.length), begun };
}

/** Calls `onReport` for each report that is read from the terminal, until the returned function is called. */
export function listenToMouse(stdin: NodeJS.ReadStream, onReport: (report: MouseReport) => void): () => void {
  // Ink reads the terminal with `read`. It drops whole reports, and takes the parts of others for keys.
  const { read } = stdin;
  let begun = '';
  let isOver = false;
  let timer: NodeJS.Timeout | undefined;
  stdin.read = (size?: number): string | null => {
    for (let piece = read.call(stdin, size); piece !== null; piece = read.call(stdin, size)) {
      clearTimeout(timer);
      isOver = false;
      const input = separate(begun + String(piece));
      begun = input.begun;
      if (begun !== '')
        timer = setTimeout(() => {
          isOver = true;
          stdin.emit('readable');
        }, REST_MS);
      for (const report of input.reports) onReport(report);
      if (input.keys !== '') return input.keys;
    }
    if (!isOver) return null;
    isOver = false;
    const rest = begun;
    begun = '';
    return rest;
  };
  return () => {
    clearTimeout(timer);
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
