import { wrap } from '../terminal/cells.ts';
import { oneLine } from '../terminal/format.ts';
import { PROMPTS } from './actions.ts';
import { KEYS } from './keys.ts';
import type { Screen } from './screen.ts';
import { type Line, parts, span } from './styledText.ts';
import type { ViewState } from './viewState.ts';

/** Longest value of the detail of a row, and longest question. */
export const MAX_TEXT = 4_000;

const prompt = (text: string): Line => [span(text, 'accent'), span('█', 'accent')];

const CLOSES = {
  help: 'escape close  up/down scroll',
  detail: 'escape close  up/down scroll',
  columns: 'space show or hide  up/down choose  escape close',
} as const;

/** The last rows: a question or a prompt, else the message of the last key, else the keys. */
export function footer(state: ViewState, screen: Screen): Line[] {
  const { overlay, message, busy, pane } = state;
  const { width } = screen;
  if (overlay.kind === 'confirm') {
    const name = screen.admin?.production;
    const question = wrap(oneLine(overlay.question.text, MAX_TEXT), width);
    const answer =
      name === undefined
        ? 'y to do it, any other key not to '
        : `type ${name} and enter to confirm: ${overlay.typed}`;
    return [...question.map((line): Line => [span(line, 'warn')]), prompt(answer)];
  }
  if (overlay.kind === 'ask') return [prompt(`${PROMPTS[overlay.what]} ${overlay.typed}`)];
  if (overlay.kind === 'palette') return [prompt(`:${overlay.typed}`)];
  if (overlay.kind === 'filter' && pane !== 'overview')
    return [prompt(`filter: ${state.panes[pane].filter}`)];
  if (message) return [[span(oneLine(message.text, width), message.tone)]];
  if (busy) return [[span(`… ${oneLine(busy, width - 2)}`, 'accent')]];
  if (overlay.kind === 'help' || overlay.kind === 'detail' || overlay.kind === 'columns')
    return [[span(CLOSES[overlay.kind], 'dim')]];
  return [hints(state, screen)];
}

function hints({ pane, panes }: ViewState, { width, admin }: Screen): Line {
  const filter = pane === 'overview' ? '' : panes[pane].filter;
  const keys = KEYS.flatMap((key): Line[] =>
    key.hint && (!key.admin || admin) ? [[span(key.hint, 'dim')]] : [],
  );
  return parts([filter ? [span(`filter: ${oneLine(filter, 20)}`, 'accent')] : undefined, ...keys], width);
}
