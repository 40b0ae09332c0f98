import { cellsOf, cut } from '../terminal/cells.ts';

/** Meaning of a text, which chooses its colour. Texts are complete without colours. */
export type Tone = 'plain' | 'dim' | 'strong' | 'ok' | 'warn' | 'bad' | 'accent' | 'selected' | 'head';

export interface Span {
  readonly text: string;
  readonly tone: Tone;
}

/** One row of the screen. */
export type Line = readonly Span[];

export const span = (text: string, tone: Tone = 'plain'): Span => ({ text, tone });

type Codes = Readonly<Record<Tone, string>>;

const DARK: Codes = {
  plain: '',
  dim: '2',
  strong: '1',
  ok: '32',
  warn: '33',
  bad: '1;31',
  accent: '36',
  selected: '7',
  head: '1',
};

/** Colours of a terminal. `light` has dark colours, which are legible on white. `mono` has none. */
export const THEMES = {
  dark: DARK,
  light: {
    ...DARK,
    dim: '38;5;242',
    ok: '38;5;28',
    warn: '1;38;5;130',
    bad: '1;38;5;160',
    accent: '38;5;25',
  },
  mono: { ...DARK, ok: '', warn: '1', bad: '1;4', accent: '' },
} as const satisfies Record<string, Codes>;
export type Theme = keyof typeof THEMES;
export const THEME_NAMES = Object.keys(THEMES) as Theme[];

/** The line with escape sequences of the theme, or as plain text. `true` is the dark theme. */
export function paint(line: Line, theme: Theme | boolean): string {
  const codes = theme === false ? undefined : THEMES[theme === true ? 'dark' : theme];
  return line
    .map(({ text, tone }) => (codes?.[tone] ? `\u001b[${codes[tone]}m${text}\u001b[0m` : text))
    .join('')
    .replace(/ +$/, '');
}

export const widthOf = (line: Line): number => line.reduce((sum, { text }) => sum + cellsOf(text), 0);

/** Cuts a line to the width of the screen: a wider line would wrap and move all lines below it. */
export function cutLine(line: Line, width: number): Line {
  let left = width;
  const kept: Span[] = [];
  for (const { text, tone } of line) {
    if (left <= 0) break;
    const short = cut(text, left);
    left -= cellsOf(short);
    kept.push({ text: short, tone });
  }
  return kept;
}

/** Joins parts in order with a gap. Leaves out parts that do not fit. */
export function parts(all: readonly (Line | undefined)[], width: number, gap = '  '): Line {
  const kept: Span[] = [];
  let used = 0;
  for (const part of all) {
    if (!part || part.length === 0) continue;
    const more = widthOf(part) + (kept.length > 0 ? gap.length : 0);
    if (used + more > width) continue;
    if (kept.length > 0) kept.push(span(gap));
    kept.push(...part);
    used += more;
  }
  return kept;
}

/** One row with a left and a right end. Leaves the right one out if both do not fit. */
export function ends(left: Line, right: Line, width: number): Line {
  const room = width - widthOf(left) - widthOf(right);
  return room < 1 ? left : [...left, span(' '.repeat(room)), ...right];
}
