import { packIds } from '../../model/messages.ts';
import type { State } from './state.ts';

/** `h` home feeds, `a` rings of authors, `p` posts. `hm` and `am` are slot bitmaps, one an hour. */
export type Kind = 'h' | 'a' | 'p';

export const keyOf = (state: State, kind: Kind, id: number): Buffer =>
  Buffer.concat([Buffer.from(state.prefix + kind), packIds([id])]);

export const slotBitmapKey = (state: State, kind: Kind): string => `${state.prefix}${kind}m`;

/** Key of the nonce that names the last edit of any post. */
export const editKey = (state: State): string => `${state.prefix}e`;

/** Below one hour: a value expires before the bitmap that has its slot is no longer read. */
export const SECONDS_TO_LIVE = 3_500;
