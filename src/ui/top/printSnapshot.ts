import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { report } from './frame.ts';
import { initialState } from './state.ts';
import { paint } from './styledText.ts';

const MAX_ROWS = 500;

/** Returns one snapshot as text, for `--once` and for pipes. */
export function topText(snapshot: TopSnapshot, options: { width: number; colours: boolean }): string {
  const screen = {
    width: options.width,
    height: MAX_ROWS,
    admin: undefined,
    memory: new Map(),
    still: true,
  } as const;
  return report(snapshot, initialState(1), screen)
    .map((line) => paint(line, options.colours))
    .join('\n');
}
