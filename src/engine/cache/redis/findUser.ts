import { readId } from '../../model/messages.ts';
import { namesUser } from './format.ts';
import type { RedisState, State } from './state.ts';

/** `feedctl:<database>:<run>:<epoch>:<kind><id>`: what is held, in whatever epoch. */
const HELD = /^feedctl:[^:]*:[^:]*:\d+:([hap])(.{8})$/s;
/** `feedctl:<database>:limit:<of what>:<user>`: what a user has asked for in the last minutes. */
const LIMITED = /^feedctl:[^:]*:limit:[^:]*:(\d+)$/;

/** Keys of a user's own, and those whose values name them: feeds with an entry or a followee, posts. Reads all there are. */
export async function* keysOfUser(state: RedisState, now: State, userId: number): AsyncGenerator<Buffer[]> {
  for await (const keys of state.connection.keys(now.runId, `${state.base}*`)) {
    const values: Buffer[] = [];
    const naming: Buffer[] = [];
    for (const key of keys) {
      const text = key.toString('latin1');
      const held = HELD.exec(text);
      if (!held) {
        if (Number(LIMITED.exec(text)?.[1]) === userId) naming.push(key);
      } else if (held[1] !== 'p' && readId(key, key.length - 8) === userId) naming.push(key);
      else if (held[1] !== 'a') values.push(key);
    }
    const found = await state.connection.getMany(now.runId, values);
    for (const [i, value] of found.entries()) if (value && namesUser(value, userId)) naming.push(values[i]!);
    if (naming.length > 0) yield naming;
  }
}
