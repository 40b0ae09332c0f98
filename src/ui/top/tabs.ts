import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { cellsOf, cut } from '../terminal/cells.ts';
import { formatCompact } from '../terminal/format.ts';
import type { ViewId } from './pane.ts';
import { PANES, paneOf } from './panes.ts';
import { type Line, type Span, span } from './styledText.ts';

const OVERVIEW = { id: 'overview', hotkey: '0', title: 'Overview', short: 'All' } as const;
const LIST: readonly { id: ViewId; hotkey: string; title: string; short: string }[] = [OVERVIEW, ...PANES];
/** Shorter names could be mistaken for each other. */
const MIN_NAME = 3;
const MAX_NAME = 10;
/** Length of names in a list that scrolls. */
const SCROLLED_NAME = 8;

/** A tab with its place on the screen: `to` is the cell after it. */
export interface Tab {
  readonly id: ViewId;
  readonly text: string;
  readonly from: number;
  readonly to: number;
}

interface Tabs {
  readonly tabs: readonly Tab[];
  /** Tabs are left out before the first one and after the last one. */
  readonly before: boolean;
  readonly after: boolean;
}

/**
 * The names of all panes. If they do not fit they are shortened, down to three letters; after that the list
 * scrolls, so that the shown pane and its neighbours keep their names.
 */
export function layTabs(snapshot: TopSnapshot, shown: ViewId, width: number): Tabs {
  const rows = shown === 'overview' ? null : paneOf(shown).rows(snapshot);
  const count = rows ? ` ${formatCompact(rows.length)}` : '';
  const texts = (most: number, whole: boolean) =>
    LIST.map(({ id, hotkey, title, short }) => {
      const isShown = id === shown;
      const name = isShown && whole ? title : [...short].slice(0, most).join('');
      return { id, text: ` ${hotkey} ${name}${isShown ? count : ''} ` };
    });
  for (let most = MAX_NAME; most >= MIN_NAME; most -= 1) {
    const whole = texts(most, true);
    if (widthOfAll(whole) <= width) return { tabs: place(whole, 0), before: false, after: false };
  }
  const short = texts(MIN_NAME, false).map(({ id, text }) => ({ id, text: text.slice(0, -1) }));
  if (widthOfAll(short) <= width) return { tabs: place(short, 0), before: false, after: false };
  return scrolled(texts(SCROLLED_NAME, true), shown, width);
}

interface Text {
  readonly id: ViewId;
  readonly text: string;
}

const widthOfAll = (texts: readonly Text[]): number =>
  texts.reduce((sum, { text }) => sum + cellsOf(text), 0);

function place(texts: readonly Text[], start: number): Tab[] {
  let from = start;
  return texts.map(({ id, text }) => {
    const tab = { id, text, from, to: from + cellsOf(text) };
    from = tab.to;
    return tab;
  });
}

/** The tabs around the shown one that fit between the two arrows. */
function scrolled(texts: readonly Text[], shown: ViewId, width: number): Tabs {
  const room = Math.max(1, width - 2);
  let first = texts.findIndex(({ id }) => id === shown);
  let last = first;
  const fits = (from: number, to: number) =>
    from >= 0 && to < texts.length && widthOfAll(texts.slice(from, to + 1)) <= room;
  for (let grown = true; grown; ) {
    grown = false;
    if (fits(first, last + 1)) {
      last += 1;
      grown = true;
    }
    if (fits(first - 1, last)) {
      first -= 1;
      grown = true;
    }
  }
  const kept = texts.slice(first, last + 1).map(({ id, text }) => ({ id, text: cut(text, room) }));
  return { tabs: place(kept, 1), before: first > 0, after: last < texts.length - 1 };
}

export function tabLine(snapshot: TopSnapshot, shown: ViewId, width: number): Line {
  const { tabs, before, after } = layTabs(snapshot, shown, width);
  const spans = tabs.map(({ id, text }): Span => span(text, id === shown ? 'selected' : 'dim'));
  if (!before && !after) return spans;
  const used = 1 + (tabs.at(-1)?.to ?? 1) - 1;
  return [
    span(before ? '‹' : ' ', 'accent'),
    ...spans,
    span(' '.repeat(Math.max(0, width - 1 - used))),
    span(after ? '›' : ' ', 'accent'),
  ];
}
