import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { report } from './frame.ts';
import { paint, type Theme } from './styledText.ts';
import { initialState } from './viewState.ts';

const MAX_ROWS = 500;

/** Returns one snapshot as text, for `--once` and for pipes. */
export function topText(snapshot: TopSnapshot, options: { width: number; theme: Theme | false }): string {
  const screen = {
    width: options.width,
    height: MAX_ROWS,
    admin: undefined,
    memory: new Map(),
    still: true,
  } as const;
  return report(snapshot, initialState(1), screen)
    .map((line) => paint(line, options.theme))
    .join('\n');
}
