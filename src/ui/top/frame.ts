import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { header } from './header.ts';
import { bodyOf, layOut } from './layout.ts';
import { paneOf } from './panes.ts';
import { paneTable } from './paneTable.ts';
import type { Screen } from './screen.ts';
import { cutLine, type Line } from './styledText.ts';
import type { ViewState } from './viewState.ts';

/**
 * Returns exactly as many rows as the screen has, none wider than the screen. A pure function: equal
 * arguments return equal frames.
 */
export function frame(snapshot: TopSnapshot, state: ViewState, screen: Screen): Line[] {
  const { width, height } = screen;
  const { head, body, foot, room } = layOut(snapshot, state, screen);
  const blank = Array.from({ length: room - body.length }, (): Line => []);
  return [...head, ...body, ...blank, ...foot].slice(0, height).map((line) => cutLine(line, width));
}

/** The overview without rows for keys, as high as it needs to be, with every source that did not answer. */
export function report(snapshot: TopSnapshot, state: ViewState, screen: Screen): Line[] {
  const missing = snapshot.sources.filter(({ ageMs, error }) => error || ageMs === null);
  const titles = ['NO ANSWER'];
  const faults = paneTable(paneOf('sources'), missing, state, screen.width, { titles });
  return [
    ...header(snapshot, state, screen),
    ...bodyOf(snapshot, state, screen, screen.height).lines,
    ...(missing.length > 0 ? [[], ...faults] : []),
  ].map((line) => cutLine(line, screen.width));
}
