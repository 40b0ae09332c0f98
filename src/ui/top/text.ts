import type { TopSnapshot } from '../../engine/admin/top/snapshot.ts';
import { frame } from './frame.ts';
import { paint } from './line.ts';
import { initialState } from './state.ts';

const MOST_ROWS = 500;

/** One snapshot as text: the overview, as high as it needs to be, without the rows of keys. */
export function topText(
  snapshot: TopSnapshot,
  options: { width: number; colours: boolean; intervalSeconds: number },
): string {
  const screen = { width: options.width, height: MOST_ROWS, admin: undefined, memory: new Map() };
  const lines = frame(snapshot, initialState(options.intervalSeconds), screen).map((line) =>
    paint(line, options.colours),
  );
  const shown = lines.slice(0, -1).filter((line) => !/ 0 Overview /.test(line));
  while (shown.at(-1) === '') shown.pop();
  return shown.join('\n');
}
