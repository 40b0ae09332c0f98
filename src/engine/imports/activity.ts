import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { idField, readRecords } from '../files/records.ts';
import { counted } from '../model/counted.ts';
import { FeedctlError } from '../model/errors.ts';
import { IMPORT_SECONDS, IMPORTS_PER_SECOND, importedId } from '../model/ids.ts';
import type { SocialContext } from '../social/context.ts';
import { missingUsers } from '../store/users.ts';
import { ImportTally } from './partitions.ts';
import { type ImportOptions, type ImportResult, importAll, type NewPost, type PostSource } from './posts.ts';
import { checking } from './report.ts';
import { checkImport } from './sql.ts';

const POSTS_PER_BATCH = 4_000;

interface Row {
  readonly actor: number;
  readonly target: number;
  readonly second: number;
  readonly kind: string;
}

function parseRow(fields: string[]): Row {
  if (fields.length !== 4)
    throw `expected \`actor target unix-seconds kind\`, found ${counted(fields.length, 'field')}`;
  const second = Number(fields[2]);
  if (!/^\d+$/.test(fields[2]!) || second < IMPORT_SECONDS.min || second > IMPORT_SECONDS.max) {
    throw `${JSON.stringify(fields[2])} is no time in unix seconds since 2010`;
  }
  return {
    actor: idField(fields[0]!, 'user'),
    target: idField(fields[1]!, 'user'),
    second,
    kind: fields[3]!,
  };
}

/** Counts the rows of each second, in file order. The rank is half of a post's id. */
class Ranks {
  readonly #counts = new Map<number, number>();

  next(second: number): number {
    const rank = this.#counts.get(second) ?? 0;
    if (rank === IMPORTS_PER_SECOND) throw `more than ${IMPORTS_PER_SECOND} rows of the same second`;
    this.#counts.set(second, rank + 1);
    return rank;
  }
}

/** Returns what a replay of this file would post. Throws as `replay` does. */
export async function replayPlan(
  context: SocialContext,
  path: string,
  options: ImportOptions = {},
): Promise<{ rows: number }> {
  const source = await checkFile(context, path, options);
  const { key: digest, tally, firstSecond, lastSecond } = source;
  const rows = tally.posts;
  if (rows > 0) await checkImport(context.db, { digest, firstSecond, lastSecond });
  return { rows };
}

/** Reads the whole file before any write, so that a bad line near its end leaves no half import. */
async function checkFile(context: SocialContext, path: string, options: ImportOptions): Promise<PostSource> {
  const digest = createHash('sha256');
  const actors = new Map<number, number>();
  const ranks = new Ranks();
  const tally = new ImportTally();
  let firstSecond = Number.POSITIVE_INFINITY;
  let lastSecond = 0;
  const check = (fields: string[], line: number) => {
    const row = parseRow(fields);
    ranks.next(row.second);
    if (!actors.has(row.actor)) actors.set(row.actor, line);
    firstSecond = Math.min(firstSecond, row.second);
    lastSecond = Math.max(lastSecond, row.second);
    tally.add(row.actor, row.second);
  };
  for await (const _ of readRecords(path, check, digest)) {
    if (options.signal?.aborted)
      throw new FeedctlError('INTERRUPTED', 'interrupted while the file was checked; nothing was changed', {
        suggestions: ['Run the same command again.'],
      });
    options.onProgress?.(checking(tally.posts));
  }
  const missing = await missingUsers(context.db, [...actors.keys()]);
  if (missing.length > 0) {
    const first = missing.reduce((a, b) => (actors.get(a)! < actors.get(b)! ? a : b));
    const others = missing.length > 1 ? `, nor ${counted(missing.length - 1, 'other actor')}` : '';
    throw new FeedctlError(
      'USER_NOT_FOUND',
      `${path}, line ${actors.get(first)}: there is no user ${first}${others}`,
      {
        suggestions: ['Load the users first: `feedctl seed graph FILE...`.'],
      },
    );
  }
  const key = digest.digest('hex');
  const batches = (skip: number) => postBatches(path, skip);
  return { kind: 'replay', key, firstSecond, lastSecond, tally, batches };
}

/**
 * Posts every row of an activity file (`actor target unix-seconds kind`) at its own time. Throws
 * BAD_LINE, USER_NOT_FOUND, and errors of the import.
 */
export async function replay(
  context: SocialContext,
  path: string,
  options: ImportOptions = {},
): Promise<ImportResult> {
  const source = await checkFile(context, path, options);
  const inputs = [{ argument: path, path: resolve(path), digest: source.key }];
  return importAll(context, source, { ...options, inputs });
}

/** Yields the posts of the file in batches of 4,000, without its first `skip` rows. */
async function* postBatches(path: string, skip: number): AsyncGenerator<NewPost[]> {
  const ranks = new Ranks();
  const parse = (fields: string[]): NewPost => {
    const row = parseRow(fields);
    const id = importedId(row.second, ranks.next(row.second));
    return { id, authorId: row.actor, body: `${row.kind} @${row.target}`, createdAtMs: row.second * 1000 };
  };
  let toSkip = skip;
  let pending: NewPost[] = [];
  for await (const chunk of readRecords(path, parse)) {
    const skipped = Math.min(toSkip, chunk.length);
    toSkip -= skipped;
    pending = pending.concat(chunk.slice(skipped));
    while (pending.length >= POSTS_PER_BATCH) yield pending.splice(0, POSTS_PER_BATCH);
  }
  if (pending.length > 0) yield pending;
}
