import type { Database, Store } from '../database/database.ts';
import type { Queryable } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';

/** In: authors of one shard, their numbers of posts. Posts of pulled authors get no rows. */
const EXPECTED = `
  select coalesce(sum(u.follower_count::bigint * w.posts), 0)::float8 as rows
  from unnest($1::bigint[], $2::bigint[]) w(id, posts) join users u on u.id = w.id
  where u.id = any($1) and u.push_state <> 'pull'`;

/** Returns how many feed rows the followers get for so many posts of each author. */
export async function expectedRows(db: Store, posts: ReadonlyMap<number, number>): Promise<number> {
  let sum = 0;
  for (const authors of (await db.sharding()).group([...posts.keys()], (id) => id)) {
    const counts = authors.map((id) => posts.get(id));
    sum += (await db.query<{ rows: number }>(EXPECTED, [authors, counts])).rows[0]!.rows;
  }
  return sum;
}

interface ImportedFile {
  readonly digest: string;
  readonly firstSecond: number;
  readonly lastSecond: number;
}

/** Throws IMPORT_OVERLAP if `claimImport` would. */
export async function checkImport(db: Queryable, file: ImportedFile): Promise<void> {
  const { rows } = await db.query<{ imported_at: Date }>(
    'select imported_at from imports where digest <> $1 and first_second <= $3 and last_second >= $2 limit 1',
    [file.digest, file.firstSecond, file.lastSecond],
  );
  if (rows[0]) {
    throw new FeedctlError(
      'IMPORT_OVERLAP',
      'another file with posts of the same time was replayed ' +
        `at ${rows[0].imported_at.toISOString()}: their ids would collide`,
    );
  }
}

/**
 * Claims a span of seconds for a file. Imported ids consist of the second and the place in the
 * file, so two different files must not share seconds. Claiming the same file again is allowed.
 * Throws IMPORT_OVERLAP.
 */
export async function claimImport(db: Database, file: ImportedFile): Promise<void> {
  await db.transaction(async (session) => {
    await session.query('lock table imports in exclusive mode');
    await checkImport(session, file);
    await session.query(
      'insert into imports (digest, first_second, last_second) values ($1, $2, $3) on conflict do nothing',
      [file.digest, file.firstSecond, file.lastSecond],
    );
  });
}
