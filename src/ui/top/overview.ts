import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { formatCount } from '../terminal/format.ts';
import type { AnyPane } from './pane.ts';
import { paneOf } from './panes.ts';
import { paneTable } from './paneTable.ts';
import type { Screen } from './screen.ts';
import { type OrderMemory, orderedRows } from './sorting.ts';
import { staleText } from './sources.ts';
import { type Line, span } from './styledText.ts';
import type { ViewState } from './viewState.ts';

const SECTIONS = ['queues', 'workers', 'gateways', 'errors', 'operations', 'users', 'shards'] as const;
/** Sections that are shown without rows too: a cluster needs all of these to work. */
const NEEDED: readonly string[] = ['queues', 'workers', 'gateways'];
/** Rows of each needed section that fit before the second row of others: a post passes this many queues. */
const NEEDED_ROWS = 5;

interface Section {
  readonly pane: AnyPane;
  /** The source has answered. */
  readonly known: boolean;
  readonly rows: readonly unknown[];
  /** Rows on the screen. */
  shown: number;
}

/** The first rows of every pane that has rows. The sections share the free rows of the screen. */
export function overview(snapshot: TopSnapshot, state: ViewState, screen: Screen, height: number): Line[] {
  const sections = sectionsOf(snapshot, state, screen.memory);
  const left = shareRows(sections, height);
  const used = sections.filter(({ shown }) => shown > 0);
  const spaced = left >= used.length - 1;
  return used.flatMap((section, i): Line[] => [
    ...(spaced && i > 0 ? [[]] : []),
    ...sectionLines(section, snapshot, state, screen.width),
  ]);
}

const sectionsOf = (snapshot: TopSnapshot, state: ViewState, memory: OrderMemory): Section[] =>
  SECTIONS.map((id) => {
    const pane = paneOf(id);
    const choice = { sort: null, reversed: false, filter: '' };
    const rows = orderedRows(pane, snapshot, choice, state.window, overviewMemory(memory));
    return { pane, known: rows !== null, rows: rows ?? [], shown: 0 };
  }).filter(({ pane, rows }) => rows.length > 0 || NEEDED.includes(pane.id));

/** Sets `shown` of each section and returns the rows that stay free. */
function shareRows(sections: readonly Section[], height: number): number {
  let left = height;
  // First a head and one row each, then one more row each until all are shown.
  for (const section of sections) {
    if (left < 2) break;
    section.shown = 1;
    left -= 2;
  }
  const share = (some: readonly Section[], max: number) => {
    for (let before = -1; left > 0 && before !== left; ) {
      before = left;
      for (const section of some) {
        const { shown, rows } = section;
        if (shown === 0 || shown >= Math.min(rows.length, max) || left === 0) continue;
        section.shown += 1;
        left -= 1;
      }
    }
  };
  share(
    sections.filter(({ pane }) => NEEDED.includes(pane.id)),
    NEEDED_ROWS,
  );
  share(sections, Number.POSITIVE_INFINITY);
  return left;
}

function sectionLines(section: Section, snapshot: TopSnapshot, state: ViewState, width: number): Line[] {
  const { pane, known, rows, shown } = section;
  const titles = sectionTitles(section, staleText(snapshot, pane.source));
  if (rows.length > 0) return paneTable(pane, mostImportant(pane, rows, shown), state, width, { titles });
  return [
    [span(`  ${titles[0]}`, 'head')],
    [span(`  ${known ? pane.empty(snapshot) : 'not known yet'}`, 'dim')],
  ];
}

/** Titles from the longest to the shortest. */
function sectionTitles({ pane, known, rows, shown }: Section, stale: string | undefined): string[] {
  const count = known ? formatCount(rows.length) : '';
  const title = pane.title.toUpperCase();
  const short = pane.short.toUpperCase();
  return [
    ...(stale ? [`${title} ${stale}`, `${short} old`] : []),
    ...(rows.length > shown ? [`${title} ${shown} of ${count}`] : []),
    `${title} ${count}`.trim(),
    `${short} ${count}`.trim(),
    short,
  ];
}

/** This many rows in their order: first those that matter. */
function mostImportant(pane: AnyPane, rows: readonly unknown[], count: number): readonly unknown[] {
  const { matters } = pane;
  if (!matters || rows.length <= count) return rows.slice(0, count);
  const chosen = [...rows.filter(matters), ...rows.filter((row) => !matters(row))].slice(0, count);
  return rows.filter((row) => chosen.includes(row));
}

/** The overview ignores the orders that the viewer chose in panes, so it remembers its own. */
const overviewMemories = new WeakMap<OrderMemory, OrderMemory>();
function overviewMemory(memory: OrderMemory): OrderMemory {
  const known = overviewMemories.get(memory) ?? new Map();
  overviewMemories.set(memory, known);
  return known;
}
