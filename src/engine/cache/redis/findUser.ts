import { readId } from '../../model/messages.ts';
import { namesUser } from './format.ts';
import type { RedisState, State } from './state.ts';

/** `feedctl:<lineage>:<run>:<epoch>:<kind><id>`: a cached value of any epoch. */
const CACHED = /^feedctl:[^:]*:[^:]*:\d+:([hap])(.{8})$/s;
/** `feedctl:<cluster>:limit:<name>:<user>`: the request count of a user. */
const LIMITED = /^feedctl:[^:]*:limit:[^:]*:(\d+)$/;

/**
 * Yields a user's own keys, and keys whose values name the user: feeds with an entry or a followee,
 * posts. Reads every value of the cache.
 */
export async function* keysOfUser(state: RedisState, now: State, userId: number): AsyncGenerator<Buffer[]> {
  for (const base of state.bases) yield* keysBelow(state, now, base, userId);
}

async function* keysBelow(
  state: RedisState,
  now: State,
  base: string,
  userId: number,
): AsyncGenerator<Buffer[]> {
  for await (const keys of state.connection.keys(now.runId, `${base}*`)) {
    const unread: Buffer[] = [];
    const naming: Buffer[] = [];
    for (const key of keys) {
      const text = key.toString('latin1');
      const kind = CACHED.exec(text)?.[1];
      if (!kind) {
        if (Number(LIMITED.exec(text)?.[1]) === userId) naming.push(key);
      } else if (kind !== 'p' && readId(key, key.length - 8) === userId) naming.push(key);
      else if (kind !== 'a') unread.push(key);
    }
    const values = await state.connection.getMany(now.runId, unread);
    for (const [i, value] of values.entries()) if (value && namesUser(value, userId)) naming.push(unread[i]!);
    if (naming.length > 0) yield naming;
  }
}
