import { paint, span, type Tone } from '../top/styledText.ts';

/** Colours of words that stand for a state. */
const STATES: Readonly<Record<string, Tone>> = {
  ready: 'ok',
  ok: 'ok',
  running: 'ok',
  'NOT READY': 'bad',
  NO: 'bad',
  FAULT: 'bad',
  MISSING: 'bad',
  STUCK: 'bad',
  UNAVAILABLE: 'bad',
  failed: 'bad',
  WARNING: 'warn',
  PAUSED: 'warn',
  waiting: 'warn',
  paused: 'warn',
};

/** States that are words of no other meaning: they are painted inside a text too. */
const IN_TEXT = /\b(?:NOT READY|FAULT|MISSING|STUCK|UNAVAILABLE|WARNING|PAUSED)\b/g;

/** Returns the colour of a cell of a table; undefined: none. */
export const stateTone = (title: string, cell: string): Tone | undefined =>
  cell === 'yes' && title === 'ready' ? 'ok' : STATES[cell];

/** Paints the states in a text. A text with colours stays as it is. */
export const paintStates = (text: string): string =>
  text.includes('\u001b')
    ? text
    : text.replaceAll(IN_TEXT, (state) => paint([span(state, STATES[state])], true));
