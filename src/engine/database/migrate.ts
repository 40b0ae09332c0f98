import { readdir } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { counted } from '../model/counted.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { distribute, pendingTables, type StoreSetting } from './citus.ts';
import type { Database } from './database.ts';
import { databaseError } from './errors.ts';
import { isFeedTableWhole, partitionFeedTable } from './feedPartitions.ts';
import { buildIndexOnline, type OnlineIndex } from './onlineIndex.ts';
import { type LimitLocks, type LockWait, withShortLocks } from './shortLocks.ts';
import { checkSessionsKept, checkWritable } from './usable.ts';

const DIRECTORY = new URL('./migrations/', import.meta.url);
const TABLE = 'schema_migrations';
/**
 * Setting with the names of migrations that programs without them must not work with. Every other migration
 * only expands the schema, so roles of two versions run side by side.
 */
const BREAKING = 'schema.breaking';

/** Indexes of migrations that big tables get while they are written. */
const ONLINE_INDEXES: readonly OnlineIndex[] = [
  {
    name: 'posts_deleted',
    table: 'posts',
    definition: '(author_id, id) where deleted_at is not null',
  },
];

/** Name of the change in the list of migrations. It takes several steps, and is no migration for that. */
const PARTITION_FEEDS = 'partition feed_items';

/** Name of a table's distribution in the list of migrations. */
const distributing = (table: string): string => `distribute ${table}`;

const migrationName = (file: string): string => file.replace(/\.[jt]s$/, '');

async function knownMigrations(): Promise<string[]> {
  const files = await readdir(DIRECTORY);
  return files
    .filter((file) => /\.[jt]s$/.test(file))
    .map(migrationName)
    .sort();
}

async function appliedMigrations(db: Database): Promise<string[]> {
  const exists = await db.query<{ found: string | null }>('select to_regclass($1)::text as found', [TABLE]);
  if (exists.rows[0]?.found == null) return [];
  const applied = await db.query<{ name: string }>(`select name from ${TABLE} order by id`);
  return applied.rows.map((row) => row.name);
}

/** Returns migrations that this program does not know and cannot work with. */
async function breakingMigrations(db: Database, foreign: readonly string[]): Promise<string[]> {
  if (foreign.length === 0) return [];
  const { rows } = await db.query<{ value: string[] }>('select value from settings where name = $1', [
    BREAKING,
  ]);
  return foreign.filter((name) => rows[0]?.value.includes(name));
}

export interface SchemaState {
  readonly applied: string[];
  readonly pending: string[];
}

/**
 * Returns what `migrate` would do: migrations, and on Citus tables to distribute. Throws
 * SCHEMA_NEWER for a breaking migration that this program does not know, CITUS_MISSING or DISTRIBUTION_WRONG.
 */
export async function schemaState(db: Database, store?: StoreSetting): Promise<SchemaState> {
  const known = await knownMigrations();
  const applied = await appliedMigrations(db);
  const foreign = applied.filter((name) => !known.includes(name));
  const breaking = await breakingMigrations(db, foreign);
  if (breaking.length > 0) {
    throw new FeedctlError(
      'SCHEMA_NEWER',
      `the database schema is newer than this program: it has ${breaking.join(', ')}, ` +
        `this program ends at ${known.at(-1)}`,
    );
  }
  const migrations = known.filter((name) => !applied.includes(name));
  const whole = applied.length === 0 || (await isFeedTableWhole(db));
  const tables = await pendingTables(db, store);
  return {
    applied,
    pending: [...migrations, ...(whole ? [PARTITION_FEEDS] : []), ...tables.map(distributing)],
  };
}

/** Throws SCHEMA_MISSING or SCHEMA_NEWER unless this program can work with the schema. */
export async function checkSchema(db: Database, store?: StoreSetting): Promise<void> {
  const { pending } = await schemaState(db, store);
  if (pending.length > 0) {
    throw new FeedctlError(
      'SCHEMA_MISSING',
      `the database lacks ${counted(pending.length, 'migration')}: ${pending.join(', ')}`,
    );
  }
}

/**
 * Updates the schema in one transaction, partitions the feed rows, and then distributes the tables on
 * Citus. Several processes may call it concurrently. Returns the migrations and tables. Throws SCHEMA_LOCKED
 * with the sessions that lock a table, DATABASE_READ_ONLY or DATABASE_POOLED.
 */
export async function migrate(db: Database, store?: StoreSetting, wait?: LockWait): Promise<string[]> {
  if ((await schemaState(db, store)).pending.length === 0) return [];
  await checkWritable(db, db.url);
  // Session locks keep two migrations apart.
  await checkSessionsKept(db.server);
  for (const index of ONLINE_INDEXES) await buildIndexOnline(db, index, wait);
  const migrations = await runMigrations(db, wait);
  const partitioned = (await partitionFeedTable(db, wait)) ? [PARTITION_FEEDS] : [];
  return [...migrations, ...partitioned, ...(await distribute(db, store)).map(distributing)];
}

async function runMigrations(db: Database, wait: LockWait | undefined): Promise<string[]> {
  const { runner, PG_MIGRATE_LOCK_ID } = await import('node-pg-migrate');
  const attempt = (limit: LimitLocks) =>
    db.withSession(async (session) => {
      // The runner takes this lock again. The wait for another migration holds up no statement.
      await session.query('select pg_advisory_lock($1)', [PG_MIGRATE_LOCK_ID]);
      await limit(session, 'session');
      const done = await runner({
        dbClient: session,
        dir: fileURLToPath(DIRECTORY),
        direction: 'up',
        migrationsTable: TABLE,
        ignorePattern: '.*\\.map',
        advisoryLockMode: 'wait',
        singleTransaction: true,
        logger: { info: () => {}, warn: () => {}, error: () => {} },
        // The default loader would compile each file again and cache the result in the temporary
        // directory.
        migrationLoaderStrategies: [
          {
            extensions: ['.js', '.ts'],
            loader: async (paths: string[]) =>
              Promise.all(
                paths.map(async (path) => ({
                  id: path,
                  filePaths: [path],
                  actions: await import(pathToFileURL(path).href),
                })),
              ),
          },
        ],
      });
      await session.query('select pg_advisory_unlock($1)', [PG_MIGRATE_LOCK_ID]);
      await session.query('reset lock_timeout');
      return done;
    });
  try {
    const done = await withShortLocks(db, attempt, wait);
    return done.map((migration) => migration.name);
  } catch (error) {
    if ((error as { code?: string }).code) throw databaseError(error, db.url);
    throw new FeedctlError(
      'DATABASE_ERROR',
      `the migration failed, nothing was changed: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
