import type { Database, Store } from '../database/database.ts';
import type { Queryable } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';

/** In: authors of one shard. Posts of pulled authors get no rows. */
const FOLLOWERS = `
  select id, follower_count::bigint as followers from users
  where id = any($1) and push_state <> 'pull' and follower_count > 0`;

/** Returns how many followers get the posts of each author. Authors without such followers are missing. */
export async function followersOf(db: Store, authors: Iterable<number>): Promise<Map<number, number>> {
  const followers = new Map<number, number>();
  for (const ids of (await db.sharding()).group([...authors], (id) => id)) {
    const { rows } = await db.query<{ id: number; followers: number }>(FOLLOWERS, [ids]);
    for (const row of rows) followers.set(row.id, row.followers);
  }
  return followers;
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
