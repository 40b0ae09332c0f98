import { packIds } from '../../model/messages.ts';
import type { State } from './state.ts';

/** `h` feeds, `a` posts of an author, `p` posts; `hm` and `am` the marks of the first two, by the hour. */
export type Kind = 'h' | 'a' | 'p';

export const keyOf = (state: State, kind: Kind, id: number): Buffer =>
  Buffer.concat([Buffer.from(state.prefix + kind), packIds([id])]);

export const slotBitmapKey = (state: State, kind: Kind): string => `${state.prefix}${kind}m`;

/** Which edit of a post was the last: a nonce of its own. */
export const editKey = (state: State): string => `${state.prefix}e`;

/** Less than the hour that marks are kept for after this one: what is held is marked. */
export const SECONDS_TO_LIVE = 3_500;
