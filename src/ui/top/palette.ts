import { pad } from '../terminal/cells.ts';
import { KEYS, type Key } from './keys.ts';
import { type Line, span } from './styledText.ts';
import type { ViewState } from './viewState.ts';

/** The commands whose text has all typed words, those that begin with the text first. */
export function paletteMatches(typed: string, admin: boolean): Key[] {
  const wanted = typed.trim().toLowerCase();
  const words = wanted.split(/\s+/);
  const offered = KEYS.filter((key) => !key.onlyKey && (admin || !key.admin));
  const matching = offered.filter(({ help }) => words.every((word) => help.toLowerCase().includes(word)));
  const begins = ({ help }: Key) => help.toLowerCase().startsWith(wanted);
  return [...matching.filter(begins), ...matching.filter((key) => !begins(key))];
}

/** The longest text that completes the typed one for all matches that begin with it. */
export function completion(typed: string, admin: boolean): string {
  const begun = paletteMatches(typed, admin).filter(({ help }) => help.startsWith(typed));
  const [first, ...others] = begun.map(({ help }) => help);
  if (first === undefined) return typed;
  let length = first.length;
  for (const other of others) while (!other.startsWith(first.slice(0, length))) length -= 1;
  return first.slice(0, length);
}

/** The matches, the chosen one marked. */
export function paletteLines(
  { overlay }: Pick<ViewState, 'overlay'>,
  admin: boolean,
  width: number,
  room: number,
): Line[] {
  if (overlay.kind !== 'palette') return [];
  const matches = paletteMatches(overlay.typed, admin);
  if (matches.length === 0) return [[span('  no such pane or action', 'dim')]];
  const index = Math.min(overlay.index, matches.length - 1);
  const first = Math.max(0, Math.min(index - room + 1, matches.length - room));
  return matches.slice(first, first + room).map(({ keys, help }, i): Line => {
    const isChosen = first + i === index;
    return [
      span(isChosen ? '› ' : '  ', isChosen ? 'selected' : 'plain'),
      span(pad(help, Math.max(1, width - 14)), isChosen ? 'selected' : 'plain'),
      span(`  ${keys.join(' ')}`, 'dim'),
    ];
  });
}
