/**
 * How many cells of a terminal a text takes: East Asian wide characters and emoji two, combining ones none. Ranges: Unicode's
 * East Asian Width, W and F.
 */
const WIDE =
  /[\u1100-\u115f\u231a\u231b\u2329\u232a\u23e9-\u23ec\u25fd\u25fe\u2614\u2615\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{16fe0}-\u{18cff}\u{1b000}-\u{1b2ff}\u{1f004}\u{1f0cf}\u{1f18e}-\u{1f19a}\u{1f200}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1faff}\u{20000}-\u{3fffd}]|\ufe0f/u;
const NO_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;
/** What is printable, and one cell each. */
const PLAIN = /^[\x20-\x7e\u00a0-\u00ac\u00ae-\u02ff\u2500-\u259f\u2026\u2190-\u2193\u25b2\u25bc\u25cf]*$/;
const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

const widthOfGrapheme = (grapheme: string): number =>
  NO_WIDTH.test(grapheme) ? 0 : WIDE.test(grapheme) ? 2 : 1;

export function cellsOf(text: string): number {
  if (PLAIN.test(text)) return text.length;
  let cells = 0;
  for (const { segment } of graphemes.segment(text)) cells += widthOfGrapheme(segment);
  return cells;
}

/** Cut to so many cells, with an ellipsis where something is missing. No character is cut in two. */
export function cut(text: string, width: number): string {
  if (width <= 0) return '';
  if (text.length <= width && PLAIN.test(text)) return text;
  if (PLAIN.test(text)) return `${text.slice(0, width - 1)}…`;
  if (cellsOf(text) <= width) return text;
  let cells = 0;
  let kept = '';
  for (const { segment } of graphemes.segment(text)) {
    const more = widthOfGrapheme(segment);
    if (cells + more > width - 1) break;
    cells += more;
    kept += segment;
  }
  return `${kept}…`;
}

/** Cut or filled to exactly so many cells. */
export function pad(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const short = cut(text, width);
  const fill = ' '.repeat(Math.max(0, width - cellsOf(short)));
  return align === 'left' ? short + fill : fill + short;
}

const BARS = '▁▂▃▄▅▆▇█';

/** A bar for each of the last `width` values, the highest one full; nothing is the lowest. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = width > 0 ? values.slice(-width) : [];
  const most = Math.max(...shown, 0);
  return shown
    .map((value) => (value <= 0 ? BARS[0]! : BARS[Math.max(1, Math.ceil((value / most) * 8) - 1)]!))
    .join('')
    .padStart(width);
}
