import type { Queryable } from '../../database/types.ts';
import { MAX_ID } from '../../model/ids.ts';
import type { UserSource } from './users.ts';
import type { FeedsRebuilt } from './variant.ts';

export interface RebuildResult {
  readonly users: number;
  /** Rows of the rebuilt feeds. */
  readonly items: number;
  /** Rows that were missing or had a wrong author. */
  readonly added: number;
  /** Rows that should not have been there. */
  readonly removed: number;
  readonly seconds: number;
}

type Counts = Omit<RebuildResult, 'seconds'>;

/** One part of all users. Those above `after`, up to and including `upTo`, are not rebuilt yet. */
export interface RebuildPart extends Counts {
  readonly after: number;
  readonly upTo: number;
}

/** Progress of a rebuild. */
export interface RebuildProgress {
  readonly lanes: readonly RebuildPart[];
  readonly seconds: number;
}

/** Saves the progress of a rebuild, so that a later run resumes it. */
export interface ProgressStore {
  begin(progress: RebuildProgress, total: number): Promise<void>;
  /** Runs in the transaction of a chunk, or on Citus after it. */
  save(
    session: Queryable,
    change: { index: number; lane: RebuildPart; done: number; seconds: number },
  ): Promise<void>;
}

const sumOf = <T>(parts: readonly T[], of: (part: T) => number): number =>
  parts.reduce((sum, part) => sum + of(part), 0);

export const totalOf = (parts: readonly RebuildPart[], seconds: number): RebuildResult => ({
  users: sumOf(parts, (part) => part.users),
  items: sumOf(parts, (part) => part.items),
  added: sumOf(parts, (part) => part.added),
  removed: sumOf(parts, (part) => part.removed),
  seconds,
});

/** Returns the part after a chunk of these users. */
export const partAfter = (
  part: RebuildPart,
  userIds: readonly number[],
  rebuilt: readonly FeedsRebuilt[],
): RebuildPart => ({
  after: userIds.at(-1)!,
  upTo: part.upTo,
  users: part.users + userIds.length,
  items: part.items + sumOf(rebuilt, ({ items }) => items),
  added: part.added + sumOf(rebuilt, ({ added }) => added),
  removed: part.removed + sumOf(rebuilt, ({ removed }) => removed),
});

/** Splits the users in equal parts. Users that are created meanwhile belong to the last one. */
export async function splitUsers(source: UserSource, total: number, count: number): Promise<RebuildPart[]> {
  const parts: RebuildPart[] = [];
  let after = 0;
  for (let n = 1; n <= count; n += 1) {
    const last = n < count ? await source.at(Math.floor((total * n) / count)) : undefined;
    const upTo = last ?? MAX_ID;
    parts.push({ after, upTo, users: 0, items: 0, added: 0, removed: 0 });
    if (upTo === MAX_ID) break;
    after = upTo;
  }
  return parts;
}
