const EIGHTHS = ' ▁▂▃▄▅▆▇█';
const LOWEST = '▁';

/**
 * Spreads values over the cells of a chart: a value takes several cells, or a cell shows the greatest of
 * several values. null: not known.
 */
export function spread(values: readonly (number | null)[], cells: number): (number | null)[] {
  return Array.from({ length: cells }, (_, cell) => {
    const from = Math.floor((cell * values.length) / cells);
    const to = Math.max(from + 1, Math.floor(((cell + 1) * values.length) / cells));
    const known = values.slice(from, to).filter((value) => value !== null);
    return known.length > 0 ? Math.max(...known) : null;
  });
}

/**
 * Rows of a bar chart, the top one first. `most` is a full bar. Zero is the lowest bar of the last row,
 * and a cell without a value is blank.
 */
export function barRows(values: readonly (number | null)[], rows: number, most: number): string[] {
  return Array.from({ length: rows }, (_, row) => {
    const below = rows - 1 - row;
    return values
      .map((value) => {
        if (value === null) return ' ';
        const eighths = most > 0 ? Math.ceil((value / most) * rows * 8) : 0;
        const here = Math.max(0, Math.min(8, eighths - below * 8));
        return below === 0 && here === 0 ? LOWEST : EIGHTHS[here]!;
      })
      .join('');
  });
}

/** `-5m ─── -2m30s ─── now`: times below a chart, as many as have room. */
export function timeAxis(seconds: number, cells: number): string {
  const now = 'now';
  const parts = cells >= 60 ? 4 : cells >= 28 ? 2 : 1;
  const labels = Array.from({ length: parts }, (_, i) => agoText((seconds * (parts - i)) / parts));
  const axis = Array.from({ length: cells }, () => '─');
  const put = (text: string, at: number) => {
    for (const [i, char] of [...text].entries()) if (at + i < cells) axis[at + i] = char;
  };
  for (const [i, label] of labels.entries()) put(`${label} `, Math.floor((i * cells) / parts));
  if (cells >= labels[0]!.length + now.length + 2) put(` ${now}`, cells - now.length - 1);
  return axis.join('');
}

/** `-45s`, `-5m`, `-3m45s`, `-1h` */
function agoText(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole % 3_600 === 0) return `-${whole / 3_600}h`;
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  return `-${minutes > 0 ? `${minutes}m` : ''}${rest > 0 ? `${rest}s` : ''}`;
}
