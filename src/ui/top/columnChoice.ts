import type { AnyPane } from './pane.ts';
import { paneOf } from './panes.ts';
import { type Line, span } from './styledText.ts';
import { change, type Handler, only, type PaneState, say, type ViewState } from './viewState.ts';

/** The columns of a pane, each with a mark if it is shown where there is room. */
export const columnLines = ({ columns }: AnyPane, { hidden }: PaneState, index: number): Line[] =>
  columns.map(({ title }, i): Line => {
    const mark = hidden.includes(title) ? '[ ]' : '[x]';
    return [span(`${i === index ? '› ' : '  '}${mark} ${title}`, i === index ? 'selected' : 'plain')];
  });

/** Shows or hides the column at an index. One column stays. */
export const toggleColumn =
  (index: number): Handler =>
  (state: ViewState) => {
    if (state.pane === 'overview') return only(state);
    const { columns } = paneOf(state.pane);
    const title = columns[index]?.title;
    const { hidden } = state.panes[state.pane];
    if (title === undefined) return only(state);
    if (hidden.includes(title)) return only(change(state, { hidden: hidden.filter((one) => one !== title) }));
    if (hidden.length === columns.length - 1) return say(state, 'one column has to stay');
    return only(change(state, { hidden: [...hidden, title] }));
  };
