import type { Key } from 'ink';

const NAMED = {
  upArrow: 'up',
  downArrow: 'down',
  leftArrow: 'left',
  rightArrow: 'right',
  pageDown: 'pagedown',
  pageUp: 'pageup',
  home: 'home',
  end: 'end',
  return: 'return',
  escape: 'escape',
  backspace: 'backspace',
  // Most terminals send it for backspace.
  delete: 'backspace',
} as const satisfies Partial<Record<keyof Key, string>>;

/** The keys of one input. A paste has several keys, and so has fast typing. */
export function keysOf(input: string, key: Key): string[] {
  // Terminals send Alt with a key as escape and the key, so both typed fast look like Alt.
  if (key.meta && !key.escape) return ['escape', ...keysOf(input, { ...key, meta: false })];
  if (key.tab) return [key.shift ? 'shift-tab' : 'tab'];
  for (const [flag, name] of Object.entries(NAMED)) if (key[flag as keyof typeof NAMED]) return [name];
  if (key.ctrl) return [`ctrl-${input}`];
  return [...input].flatMap((char) => {
    if (char === ' ') return ['space'];
    if (char === '\r' || char === '\n') return ['return'];
    if (char === '\t') return ['tab'];
    if (char === '\u007f' || char === '\b') return ['backspace'];
    return char < ' ' ? [] : [char];
  });
}
