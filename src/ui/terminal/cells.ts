import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';

/** Printable characters of one cell each: nearly all texts, which need no look at their graphemes. */
const PLAIN = /^[\x20-\x7e\u00a0-\u00ac\u00ae-\u02ff\u2500-\u259f\u2026\u2190-\u2193\u25b2\u25bc\u25cf]*$/;

/** Cells of a terminal that a text without control characters takes. */
export const cellsOf = (text: string): number => (PLAIN.test(text) ? text.length : stringWidth(text));

/** Cuts a text to `width` cells, with an ellipsis for the missing part. Keeps graphemes whole. */
export function cut(text: string, width: number): string {
  if (width <= 0) return '';
  if (cellsOf(text) <= width) return text;
  if (PLAIN.test(text)) return `${text.slice(0, width - 1)}…`;
  const [start] = wrapAnsi(text, width - 1, { hard: true, wordWrap: false, trim: false }).split('\n');
  return width === 1 ? '…' : `${start}…`;
}

/** Cuts or fills a text to exactly `width` cells. */
export function pad(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const short = cut(text, width);
  const fill = ' '.repeat(Math.max(0, width - cellsOf(short)));
  return align === 'left' ? short + fill : fill + short;
}

/** Breaks a text between words into lines of at most `width` cells; breaks longer words too. */
export const wrap = (text: string, width: number): string[] =>
  wrapAnsi(text, width, { hard: true }).split('\n');
