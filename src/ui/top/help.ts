import { cut, pad, wrap } from '../terminal/cells.ts';
import { KEYS } from './keys.ts';
import type { Screen } from './screen.ts';
import { cutLine, type Line, span, widthOf } from './styledText.ts';

/** A narrower screen shows the keys in one column. */
const MIN_WIDTH_FOR_TWO_COLUMNS = 76;
const KEYS_WIDTH = { one: 18, two: 11 } as const;

const NOTES = [
  'posts: posts planned, from any source. made at gateways: posts of requests.',
  'p50 and p99: from the commit of a post to the commit of its feed rows. backlog: messages in all queues.',
  'A slow source is read less often. Pane 8 shows how old its last answer is.',
  'The mouse chooses tabs and rows; hold shift to select text, or start with --no-mouse.',
];
const READ_ONLY_NOTE = 'Start with --admin to drain, pause, rebuild, mark and scale.';

/** Names of keys that leave room for their meaning beside another column. */
const SHORT: Readonly<Record<string, string>> = {
  'shift-tab left': 'S-tab left',
  'pageup ctrl-b': 'pgup ^b',
  'pagedown ctrl-f': 'pgdn ^f',
  'q ctrl-c': 'q ^c',
};

/** The keys, in two columns where they fit, and notes about figures. */
export function help({ width, admin }: Screen): Line[] {
  const isWide = width >= MIN_WIDTH_FOR_TWO_COLUMNS;
  const column = isWide ? Math.floor(width / 2) : width;
  const keysWidth = width >= 120 || !isWide ? KEYS_WIDTH.one : KEYS_WIDTH.two;
  const rows = KEYS.filter((key) => admin || !key.admin).map(({ keys, help: text }): Line => {
    const names = keys.join(' ');
    const shown = names.length > keysWidth ? (SHORT[names] ?? names) : names;
    return [span(`  ${pad(shown, keysWidth)}`, 'accent'), span(cut(text, column - keysWidth - 2))];
  });
  const notes = [...NOTES, ...(admin ? [] : [READ_ONLY_NOTE])]
    .flatMap((note) => wrap(note, width - 2))
    .map((line): Line => [span(`  ${line}`, 'dim')]);
  return [...(isWide ? twoColumns(rows, column) : rows), [], ...notes];
}

function twoColumns(rows: readonly Line[], column: number): Line[] {
  const half = Math.ceil(rows.length / 2);
  return rows.slice(0, half).map((line, i): Line => {
    const shown = cutLine(line, column);
    return [...shown, span(' '.repeat(column - widthOf(shown))), ...(rows[half + i] ?? [])];
  });
}
