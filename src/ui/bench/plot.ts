import { cellsOf, pad } from '../terminal/cells.ts';

/** A bar chart of one unit. */
export interface Plot {
  readonly title: string;
  readonly bars: readonly Bar[];
}

export interface Bar {
  readonly label: string;
  /** Length of the bar, in the unit of the plot. */
  readonly value: number;
  /** The value with its unit, as readers see it. */
  readonly text: string;
}

/** Widest bar: longer ones are hard to compare with their texts. */
const MAX_BAR = 60;

/** Draws bars that begin at zero, on lines of at most `width` cells. */
export function renderPlot({ title, bars }: Plot, width: number): string {
  const label = Math.max(...bars.map((bar) => cellsOf(bar.label)));
  const text = Math.max(...bars.map((bar) => cellsOf(bar.text)));
  const room = Math.min(MAX_BAR, width - label - text - 2);
  const most = Math.max(...bars.map((bar) => bar.value));
  const lines = bars.map((bar) => {
    const cells = most > 0 ? Math.round((bar.value / most) * room) : 0;
    const drawn = room > 0 ? ` ${'█'.repeat(cells)}${cells > 0 ? ' ' : ''}` : ' ';
    return `${pad(bar.label, label)}${drawn}${bar.text}`;
  });
  return [title, ...lines].join('\n');
}
