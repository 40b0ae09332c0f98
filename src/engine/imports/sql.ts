import type { Database } from '../database/database.ts';
import type { Queryable } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';

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
