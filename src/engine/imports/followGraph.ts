import { CopyRows, copyIn } from '../database/copy.ts';
import type { Session } from '../database/types.ts';
import { idField, readRecords } from '../files/records.ts';
import { counted } from '../model/counted.ts';
import { FeedctlError } from '../model/errors.ts';
import { dispatchCommitted, type SocialContext } from '../social/context.ts';
import { loadSeed, prepareSeed, type SeedCounts } from './graphSql.ts';

export interface SeedResult extends SeedCounts {
  readonly seconds: number;
}

export interface SeedOptions {
  /** Authors with more followers than this are pulled from the start. */
  readonly celebrityThreshold: number;
  /** Runs everything and rolls it back. */
  readonly dryRun?: boolean;
  readonly onProgress?: (pairs: number, phase: 'reading' | 'writing') => void;
  readonly signal?: AbortSignal;
}

/** A threshold that no author reaches. */
export const NO_CELEBRITIES = 2 ** 31 - 1;

export type Pair = [follower: number, followee: number];

/**
 * Loads SNAP edge lists (`follower followee [weight]`). Every id becomes a user. Self-loops are
 * ignored. One transaction holds everything, so a bad line changes nothing. Throws BAD_LINE and
 * errors of reading the files.
 */
export async function seedGraph(
  context: SocialContext,
  files: readonly string[],
  options: SeedOptions,
): Promise<SeedResult> {
  async function* pairs(): AsyncGenerator<Pair[]> {
    for (const file of files) yield* readRecords(file, parsePair);
  }
  return seedPairs(context, pairs(), options);
}

/** Loads pairs from any source. Throws INTERRUPTED, with nothing changed. */
export async function seedPairs(
  context: SocialContext,
  chunks: AsyncIterable<Pair[]>,
  options: SeedOptions,
): Promise<SeedResult> {
  const startedAt = performance.now();
  const load = async (session: Session) => {
    await prepareSeed(session);
    let pairs = 0;
    for await (const chunk of chunks) {
      if (options.signal?.aborted) throw new FeedctlError('INTERRUPTED', 'interrupted; nothing was changed');
      const rows = new CopyRows(chunk.length * 32);
      for (const [follower, followee] of chunk) rows.row(2).bigint(follower).bigint(followee);
      if (rows.count > 0) await copyIn(session, 'copy seed_pairs from stdin (format binary)', [rows.bytes]);
      pairs += rows.count;
      options.onProgress?.(pairs, 'reading');
    }
    options.onProgress?.(pairs, 'writing');
    const mintIds = (count: number) => context.ids.take(count);
    const seeded = await loadSeed(session, { celebrityThreshold: options.celebrityThreshold, mintIds });
    await context.changes.resetting(session);
    return seeded;
  };
  const { events, ...counts } = await (options.dryRun
    ? context.db.rehearse(load)
    : context.db.transaction(load));
  if (!options.dryRun) await dispatchCommitted(context, events, 'events.bulk');
  return { ...counts, seconds: (performance.now() - startedAt) / 1000 };
}

function parsePair(fields: string[]): Pair {
  if (fields.length < 2 || fields.length > 3)
    throw `expected \`follower followee [weight]\`, found ${counted(fields.length, 'field')}`;
  if (fields[2] !== undefined && !/^-?\d+(\.\d+)?$/.test(fields[2]))
    throw `${JSON.stringify(fields[2])} is no weight`;
  return [idField(fields[0]!, 'user'), idField(fields[1]!, 'user')];
}
